# SPDX-License-Identifier: Apache-2.0
"""Sends the response to a `/v2` request: Triton's own, or an error of the frontend in Triton's format."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
from starlette.responses import Response
from starlette.types import Receive, Send

from fastapi_triton.admission.fair_queue import QueueTicket
from fastapi_triton.app.triton_proxy.silent_stream import SilentStream
from fastapi_triton.core import problem_details
from fastapi_triton.core.context import current_request_id
from fastapi_triton.core.disconnect import cancel_on_disconnect
from fastapi_triton.core.errors import FastAPITritonError, MethodNotAllowedError
from fastapi_triton.core.request_record import current_record, record_error
from fastapi_triton.triton.transport.connection import Connection, ResponseHead
from fastapi_triton.triton.transport.errors import access_denied

logger = logging.getLogger(__name__)

# The code that metrics count Triton's own errors by. The errors themselves are relayed unchanged.
FROM_TRITON = "from_triton"
_LONG_RESPONSE_BYTES = 4 * 1024 * 1024
# Triton's message about a dead model process is shorter.
_FAILURE_BYTES = 1024
# The hop-by-hop headers of RFC 9110 section 7.6.1, and the headers that the frontend's server adds itself.
_NOT_FORWARDED = frozenset(
    (
        *(b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection"),
        *(b"te", b"trailer", b"transfer-encoding", b"upgrade"),
        *(b"date", b"server"),
    )
)


class ProxyResponse:
    """The response to one request. Sends it, and keeps what the metrics and the log need of it."""

    def __init__(self, send: Send, known_models: set[str]) -> None:
        self._send = send
        self._known_models = known_models
        self.model = ""
        self.is_started = False
        self.ticket: QueueTicket | None = None
        self.sent_at = 0.0  # when the proxy began to send the request to Triton, by the event loop's clock
        self.failure = b""  # the first bytes of Triton's error response

    @asynccontextmanager
    async def kept_alive(self, interval_s: float) -> AsyncIterator[None]:
        """Send heartbeats until the response begins. For streams of events."""
        stream = SilentStream(self._send)
        self.ticket, self._send = stream.ticket, stream.send
        async with stream.kept_alive(interval_s):
            yield

    async def relay(self, connection: Connection, *, until_disconnect: Receive | None = None) -> None:
        """Send Triton's response to the client as it arrives.

        With `until_disconnect`, the client's `receive`, a disconnect stops the relay. Only long responses are watched:
        watching costs as much as a short response.

        Raises:
            ClientDisconnectedError: the client disconnected.
        """
        await self._start(await connection.head())
        if until_disconnect is None:
            await self._relay_body(connection)
        elif await self._relay_body(connection, _LONG_RESPONSE_BYTES):
            await cancel_on_disconnect(until_disconnect, self._relay_body(connection))

    async def _relay_body(self, connection: Connection, num_bytes: int | None = None) -> bool:
        """Relay at least this many bytes. Returns whether there is more."""
        more_body = True
        while more_body and (num_bytes is None or num_bytes > 0):
            piece, more_body = await connection.read()
            if connection.status >= 400 and len(self.failure) < _FAILURE_BYTES:
                self.failure += piece[:_FAILURE_BYTES]
            await self._send({"type": "http.response.body", "body": piece, "more_body": more_body})
            if num_bytes is not None:
                num_bytes -= len(piece)
        return more_body

    async def forward(self, head: ResponseHead, body: bytes) -> None:
        """Send a response of Triton that has been read already."""
        try:
            await self._start(head)
        except FastAPITritonError as error:
            await self.send_error(error)
        else:
            await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def _start(self, head: ResponseHead) -> None:
        if head.status in (401, 407):  # Triton rejects the frontend's credentials, not the client's
            raise access_denied(head.status)
        headers = [(name, value) for name, value in head.headers if name not in _NOT_FORWARDED]
        self.is_started = True
        if head.status < 400:
            self._known_models.add(self.model)
        else:
            current_record.get().code = FROM_TRITON
        self._label()
        await self._send({"type": "http.response.start", "status": head.status, "headers": headers})

    async def send_error(self, error: FastAPITritonError) -> None:
        """Send an error, unless the response has begun."""
        record_error(error)
        self._label()
        if self.is_started:
            # The server closes the connection, so that the client sees that the response is not complete.
            logger.warning("the response failed after it had begun, so it ends here: %s", error.detail)
            return
        response = error_response(error)
        head = {"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers}
        await self._send(head)
        await self._send({"type": "http.response.body", "body": response.body, "more_body": False})

    def _label(self) -> None:
        """Label the metrics with the model, if Triton has it: unknown names would make any number of labels."""
        if self.model in self._known_models:
            current_record.get().model = self.model


def error_response(error: FastAPITritonError) -> Response:
    """An error of the frontend in Triton's format, which tritonclient reads: `{"error": "…"}`."""
    content = {"error": error.detail, "code": error.code, "request_id": current_request_id.get()}
    headers = problem_details.headers(error)
    if isinstance(error, MethodNotAllowedError):
        headers["Allow"] = ", ".join(error.allowed)
    return Response(orjson.dumps(content), error.status, headers, "application/json")
