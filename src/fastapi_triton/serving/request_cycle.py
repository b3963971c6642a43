# SPDX-License-Identifier: Apache-2.0
"""One request and its answer on a connection: what the ASGI app reads and writes. `http_protocol.py` makes them."""

import asyncio
import logging
from collections.abc import Callable, Iterable

from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.utils import get_client_addr, get_path_with_query_string

from fastapi_triton.core.body_buffers import BodyBuffers
from fastapi_triton.core.errors import FastAPITritonError
from fastapi_triton.serving.response_head import (
    END_OF_LINE,
    FRAMING,
    default_lines,
    known_starts,
    line_start,
    require_values,
)

access_logger = logging.getLogger("uvicorn.access")

# So much of a body may wait for the app before no more is read.
_HIGH_WATER_BYTES = 256 * 1024
# Up to here a body is copied behind its head, so that both go in one piece; two pieces are cheaper for a larger one.
_JOINED_BYTES = 16 * 1024


class Exchange(RequestResponseCycle):
    """What an app is called with.

    The head of an answer that says how long it is waits for the first of its body, to go with it in one piece.
    """

    def __init__(
        self,
        protocol: HttpToolsProtocol,
        on_complete: Callable[["Exchange"], None],
        read_on: Callable[[], None],
        *,
        keep_alive: bool,
    ) -> None:
        # All that uvicorn's has; it would take the same as fourteen arguments.
        self.scope = protocol.scope
        self.transport = protocol.transport
        self.flow = protocol.flow
        self.logger = protocol.logger
        self.access_log = protocol.access_log
        self.default_headers = protocol.server_state.default_headers
        self.keep_alive = keep_alive
        self.waiting_for_100_continue = protocol.expect_100_continue
        self.disconnected = self.response_started = self.response_complete = False
        self.more_body = True
        self._says_close = False
        self.chunked_encoding = None
        self.expected_content_length = 0
        self._on_complete = on_complete
        self._read_on = read_on
        self._pieces: list[bytes] = []
        self._num_waiting_bytes = 0
        self._num_counted_bytes = 0
        self._buffers: BodyBuffers | None = None
        self._error: FastAPITritonError | None = None
        self._held = b""
        self._has_news = False
        self._news: asyncio.Event | None = None  # there is one once somebody had to wait

    # The connection's side.

    @property
    def has_enough(self) -> bool:
        """Whether no more should be read until the app has taken what came."""
        return self._num_waiting_bytes > _HIGH_WATER_BYTES and not self.response_complete

    def take(self, body: bytes) -> None:
        """A piece of the request's body."""
        self._pieces.append(body)
        self._num_waiting_bytes += len(body)
        self.tell()

    @property
    def num_pieces(self) -> int:
        """The number of received pieces that wait for the app."""
        return len(self._pieces)

    def count(self, num_bytes: int, buffers: BodyBuffers) -> None:
        """Count bytes of its body that have come: the process holds them until the request is done.

        Raises:
            OverloadedError: the process holds too much.
        """
        buffers.take(num_bytes - self._num_counted_bytes)
        self._num_counted_bytes, self._buffers = num_bytes, buffers

    def release(self) -> None:
        """Its body is no longer held in memory."""
        if self._buffers is not None:
            self._buffers.give_back(self._num_counted_bytes)
            self._buffers, self._pieces = None, []

    def fail(self, error: FastAPITritonError) -> None:
        """The rest of the request will not come: the app meets an error instead."""
        self._error = error
        self.keep_alive = False
        self.tell()

    def disconnect(self) -> None:
        """The client has left."""
        self.release()
        if not self.response_complete:
            self.disconnected = True
            self.tell()

    def tell(self) -> None:
        """Something has come, or will not."""
        self._has_news = True
        if self._news is not None:
            self._news.set()

    # The app's side.

    async def receive(self) -> ASGIReceiveEvent:
        """What has come of the request since it was last asked for; waits for something.

        Raises:
            FastAPITritonError: the rest of it will not come; only of apps that know what to do with it.
        """
        if self.waiting_for_100_continue and not self.transport.is_closing():
            self.waiting_for_100_continue = False
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not (self.disconnected or self.response_complete):
            if self.flow.read_paused:
                self._read_on()
            if not self._has_news:
                await self._wait()
            self._has_news = False
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        if self._error is not None:
            raise self._error
        pieces, self._pieces = self._pieces, []
        self._num_waiting_bytes = 0
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    async def _wait(self) -> None:
        if self._news is None:
            self._news = asyncio.Event()
        self._news.clear()
        await self._news.wait()

    async def send(self, message: ASGISendEvent) -> None:
        """The answer's head, then its body; waits while the caller takes nothing."""
        if self.disconnected:
            return
        if self.flow.write_paused:
            await self.flow.drain()
            if self.disconnected:
                return
        if message["type"] == "http.response.body" and self.response_started and not self.response_complete:
            self._send_body(message.get("body", b""), more_body=message.get("more_body", False))
        elif message["type"] == "http.response.start" and not self.response_started:
            self._send_head(message["status"], message.get("headers", ()))
        else:
            raise RuntimeError(f"An ASGI app sent {message['type']} where it does not belong.")

    def _send_head(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self.response_started = True
        self.waiting_for_100_continue = False
        if self.access_log:
            self._log(status)
        lines: list[bytes] = []
        for name, value in headers:
            lines += (known_starts.get(name) or self._new_line_start(name, value), value, END_OF_LINE)
        require_values(lines[1::3])
        if not self.keep_alive and not self._says_close:
            lines.append(b"connection: close\r\n")
        if self.chunked_encoding is None and self.scope["method"] != "HEAD" and status not in (204, 304):
            self.chunked_encoding = True
            lines.append(b"transfer-encoding: chunked\r\n")
        head = b"".join((STATUS_LINE[status], default_lines(self.default_headers), *lines, END_OF_LINE))
        if self.chunked_encoding is False:
            self._held = head
        else:
            self.transport.write(head)

    def _new_line_start(self, name: bytes, value: bytes) -> bytes:
        """The beginning of a header's line, where it is not known yet, or where we have to know the header."""
        start = FRAMING.get(name) or line_start(name)
        if start == b"content-length: ":
            if self.chunked_encoding is None:
                self.expected_content_length = int(value)
                self.chunked_encoding = False
        elif start == b"transfer-encoding: ":
            if value.lower() == b"chunked":
                self.expected_content_length = 0
                self.chunked_encoding = True
        elif start == b"connection: " and b"close" in [each.strip() for each in value.lower().split(b",")]:
            self.keep_alive = False
            self._says_close = True
        return start

    def _send_body(self, body: bytes, *, more_body: bool) -> None:
        if self.scope["method"] == "HEAD":
            self.expected_content_length = 0
            body = b""
        elif self.chunked_encoding:
            end = b"" if more_body else b"0\r\n\r\n"
            body = b"%x\r\n%b\r\n%b" % (len(body), body, end) if body else end
        else:
            self.expected_content_length -= len(body)
            if self.expected_content_length < 0:
                raise RuntimeError("The body of the answer is longer than its Content-Length.")
        self._write(body)
        if not more_body:
            if self.expected_content_length:
                raise RuntimeError("The body of the answer is shorter than its Content-Length.")
            self.response_complete = True
            self.tell()
            self._on_complete(self)

    def _write(self, body: bytes) -> None:
        held, self._held = self._held, b""
        if not held:
            if body:
                self.transport.write(body)
        elif len(body) <= _JOINED_BYTES:
            self.transport.write(held + body)
        else:
            self.transport.writelines((held, body))

    def _log(self, status: int) -> None:
        access_logger.info(
            '%s - "%s %s HTTP/%s" %d',
            get_client_addr(self.scope),
            self.scope["method"],
            get_path_with_query_string(self.scope),
            self.scope["http_version"],
            status,
        )
