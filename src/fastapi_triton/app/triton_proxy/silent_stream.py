# SPDX-License-Identifier: Apache-2.0
"""The response to a `generate_stream` that waits: the frontend begins it when nothing has come from Triton for long."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import orjson
from starlette.types import Message, Send

from fastapi_triton.admission.fair_queue import QueueTicket
from fastapi_triton.endpoints.sse import EventWriter, queued_comment

# Triton's own head of a stream, and that no proxy holds it back.
_HEAD: Message = {
    "type": "http.response.start",
    "status": 200,
    "headers": [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-store"),
        (b"x-accel-buffering", b"no"),
    ],
}
# An error is a sentence or a traceback; a longer body is none.
_MAX_ERROR_BYTES = 64 * 1024


class SilentStream:
    """Sends heartbeats, which are comments, until a response is sent. A response that comes in time passes unchanged.

    After the first heartbeat its head cannot: an error becomes an event then, `data: {"error": …}`, the form in which
    Triton reports errors in the middle of a stream. Nothing is added once the response has begun.
    """

    def __init__(self, send: Send) -> None:
        self.ticket = QueueTicket()
        self._send = send
        self._writer = EventWriter(send, _HEAD)
        self._is_error = False  # whether the response is one that comes after our own head
        self._error = b""  # the beginning of its body

    @asynccontextmanager
    async def kept_alive(self, interval_s: float) -> AsyncIterator[None]:
        """Send heartbeats while this is entered and nothing else is sent."""
        async with self._writer.kept_alive(partial(queued_comment, self.ticket), interval_s):
            yield

    async def send(self, message: Message) -> None:
        """As an ASGI server's."""
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
    """Whether its body may follow our own head."""
    return bool(head["status"] == 200) and all(name.lower() != b"content-encoding" for name, _ in head["headers"])


def _error_data(body: bytes) -> bytes:
    """On one line: the error text of a proxy before Triton may have several."""
    try:
        return orjson.dumps(orjson.loads(body))
    except orjson.JSONDecodeError:
        return orjson.dumps({"error": body.decode("utf-8", "replace")})
