# SPDX-License-Identifier: Apache-2.0
"""The response to a `/v2` request: Triton's own, or the frontend's error in the form that Triton's clients read."""

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

# The code by which Triton's own errors are counted: they pass unchanged.
FROM_TRITON = "from_triton"
_LONG_RESPONSE_BYTES = 4 * 1024 * 1024
# Longer than Triton's message for a dead model process.
_FAILURE_BYTES = 1024
# RFC 9110 section 7.6.1, and the headers that the frontend's server writes itself.
_NOT_FORWARDED = frozenset(
    (
        *(b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection"),
        *(b"te", b"trailer", b"transfer-encoding", b"upgrade"),
        *(b"date", b"server"),
    )
)


class ProxyResponse:
    """Sends one response."""

    def __init__(self, send: Send, known_models: set[str]) -> None:
        self._send = send
        self._known_models = known_models
        self.model = ""
        self.is_started = False
        self.ticket: QueueTicket | None = None
        self.sent_at = 0.0  # when the request began to go to Triton, by the event loop's clock
        self.failure = b""  # the beginning of Triton's error

    @asynccontextmanager
    async def kept_alive(self, interval_s: float) -> AsyncIterator[None]:
        """Send heartbeats until the response, which is a stream of events, begins."""
        stream = SilentStream(self._send)
        self.ticket, self._send = stream.ticket, stream.send
        async with stream.kept_alive(interval_s):
            yield

    async def relay(self, connection: Connection, *, unless_leaving: Receive | None = None) -> None:
        """Pass Triton's response on as it arrives.

        With `unless_leaving`, until the client leaves. Only long responses are watched: it costs as much as a short
        one.

        Raises:
            ClientDisconnectedError: the client left.
        """
        await self._start(await connection.head())
        if unless_leaving is None:
            await self._relay_body(connection)
        elif await self._relay_body(connection, _LONG_RESPONSE_BYTES):
            await cancel_on_disconnect(unless_leaving, self._relay_body(connection))

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
        """Send a response of Triton's that was read before."""
        try:
            await self._start(head)
        except FastAPITritonError as error:
            await self.refuse(error)
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

    async def refuse(self, error: FastAPITritonError) -> None:
        """Send an error, unless the response has begun."""
        record_error(error)
        self._label()
        if self.is_started:
            # The server closes the connection of an incomplete response, by which the client sees that it is not whole.
            logger.warning("the answer was cut off: %s", error.detail)
            return
        reply = refusal(error)
        await self._send({"type": "http.response.start", "status": reply.status_code, "headers": reply.raw_headers})
        await self._send({"type": "http.response.body", "body": reply.body, "more_body": False})

    def _label(self) -> None:
        """Only names of models that Triton has become labels."""
        if self.model in self._known_models:
            current_record.get().model = self.model


def refusal(error: FastAPITritonError) -> Response:
    """An error of the frontend as tritonclient reads it: `{"error": "…"}`."""
    content = {"error": error.detail, "code": error.code, "request_id": current_request_id.get()}
    headers = problem_details.headers(error)
    if isinstance(error, MethodNotAllowedError):
        headers["Allow"] = ", ".join(error.allowed)
    return Response(orjson.dumps(content), error.status, headers, "application/json")
