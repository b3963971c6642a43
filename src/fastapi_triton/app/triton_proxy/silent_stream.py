# SPDX-License-Identifier: Apache-2.0
"""Sends heartbeats on a `generate_stream` while nothing comes from Triton; the first one begins the response."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import orjson
from starlette.types import Message, Send

from fastapi_triton.admission.fair_queue import QueueTicket
from fastapi_triton.endpoints.sse import EventWriter, queued_comment

# The head that Triton gives a stream, with a header that keeps proxies from buffering it.
_HEAD: Message = {
    "type": "http.response.start",
    "status": 200,
    "headers": [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-store"),
        (b"x-accel-buffering", b"no"),
    ],
}
# The limit of an error's body; a traceback is shorter.
_MAX_ERROR_BYTES = 64 * 1024


class SilentStream:
    """Sends heartbeats, which are comments, until a response is sent. A response before the first one passes unchanged.

    After the first heartbeat its head is already sent. An error then becomes an event, `data: {"error": …}`, as Triton
    reports errors in the middle of a stream. Nothing is added once the response has begun.
    """

    def __init__(self, send: Send) -> None:
        self.ticket = QueueTicket()
        self._send = send
        self._writer = EventWriter(send, _HEAD)
        self._is_error = False  # whether the response is an error after our own head
        self._error = b""  # the first bytes of the error's body

    @asynccontextmanager
    async def kept_alive(self, interval_s: float) -> AsyncIterator[None]:
        """Send heartbeats for the duration of the block, until a response is sent."""
        async with self._writer.kept_alive(partial(queued_comment, self.ticket), interval_s):
            yield

    async def send(self, message: Message) -> None:
        """The `send` of an ASGI server."""
        await self._writer.stop_heartbeats()
        if self._writer.has_begun and message["type"] == "http.response.start":
            self._is_error = not _is_stream(message)
        elif not self._is_error:
            await self._send(message)
        else:
            self._error = (self._error + message.get("body", b""))[:_MAX_ERROR_BYTES]
            if not message.get("more_body", False):
                event = b"data: " + _error_data(self._error) + b"\n\n"
                await self._send({"type": "http.response.body", "body": event, "more_body": False})


def _is_stream(head: Message) -> bool:
    """Whether the body of this response may follow our own head."""
    return bool(head["status"] == 200) and all(name.lower() != b"content-encoding" for name, _ in head["headers"])


def _error_data(body: bytes) -> bytes:
    """The error as JSON on one line: the text of a proxy before Triton may have several lines."""
    try:
        return orjson.dumps(orjson.loads(body))
    except orjson.JSONDecodeError:
        return orjson.dumps({"error": body.decode("utf-8", "replace")})
