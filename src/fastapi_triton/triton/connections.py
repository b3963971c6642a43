# SPDX-License-Identifier: Apache-2.0
"""Kept connections to Triton, for exchanges whose bytes are nobody's business here: written and read as they come.

aiohttp does the same for requests that we make ourselves; for passing bytes on it costs twice the CPU. TLS, timeouts
and flow control are asyncio's, the parser is uvicorn's (httptools).
"""

import asyncio
import contextlib
import ssl
import time
from base64 import b64encode
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import cast
from urllib.parse import unquote, urlsplit

import httptools

from fastapi_triton.errors import InferenceError, TritonUnavailableError

Headers = Sequence[tuple[bytes, bytes]]

# An answer that is read faster than its reader takes it waits at Triton's end from here on.
_HIGH_WATER_BYTES = 256 * 1024
# Balancers and address translation forget a connection that is silent for longer; 60 s is what all of them keep.
_MAX_IDLE_S = 60.0


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """An answer's status and headers, names in lower case."""

    status: int
    headers: Headers


class Connection(asyncio.Protocol):
    """One connection, one exchange at a time: `start`, `write`, `finish`, then `head`, and `read` until it is whole.

    Each of them raises `TritonUnavailableError` where the connection breaks, and `InferenceError` where what comes is
    no HTTP.
    """

    def __init__(self) -> None:
        self.idle_since = 0.0
        self._transport: asyncio.Transport | None = None
        self._failure: Exception | None = None  # why it is of no use any more
        self._is_writable = asyncio.Event()
        self._is_writable.set()
        self._waiter: asyncio.Future[None] | None = None
        self._is_busy = False
        self._reset()

    def _reset(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._is_request_whole = False
        self._is_chunked = False
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._is_head_whole = False
        self._is_answer_whole = False
        self._is_kept = False
        self._pieces: deque[bytes] = deque()
        self._num_waiting_bytes = 0
        self._is_reading_paused = False

    # ---- what the frontend does

    @property
    def is_usable(self) -> bool:
        """Whether it can carry another exchange."""
        return self._failure is None and not self._is_busy

    @property
    def is_answered(self) -> bool:
        """Whether Triton has answered, or gone; the rest of the request is then of no interest to it."""
        return self._is_head_whole or self._failure is not None

    def start(self, head: bytes, *, is_chunked: bool) -> None:
        """Begin an exchange: the request line and headers, with the empty line that ends them."""
        self._reset()
        self._is_busy = True
        self._is_chunked = is_chunked
        self._write(head)

    async def write(self, piece: bytes) -> None:
        """Send a piece of the body, once Triton has taken enough of those before."""
        self._write_piece(piece)
        if not self._is_writable.is_set():
            await self._is_writable.wait()

    def finish(self, *pieces: bytes) -> None:
        """Send the last pieces of the body."""
        for piece in pieces:
            self._write_piece(piece)
        if self._is_chunked:
            self._write(b"0\r\n\r\n")
        self._is_request_whole = True

    async def head(self) -> AnswerHead:
        """The answer's status and headers, as soon as they are here."""
        while not self._is_head_whole:
            await self._progress()
        return AnswerHead(self._status, self._headers)

    async def read(self) -> tuple[bytes, bool]:
        """The next piece of the answer's body, and whether more follow. Not again after the last."""
        while not self._pieces and not self._is_answer_whole:
            await self._progress()
        piece = self._pieces.popleft() if self._pieces else b""
        self._num_waiting_bytes -= len(piece)
        if self._is_reading_paused and self._num_waiting_bytes < _HIGH_WATER_BYTES and self._transport is not None:
            self._is_reading_paused = False
            self._transport.resume_reading()
        return piece, bool(self._pieces) or not self._is_answer_whole

    def end(self) -> None:
        """The exchange is over; where it is not complete, or Triton wishes so, the connection goes with it."""
        if self._is_answer_whole and self._is_request_whole and self._is_kept and self._failure is None:
            self._is_busy = False
            self.idle_since = time.monotonic()
        else:
            self.abort()

    def abort(self) -> None:
        """Close it at once, unsent bytes and all."""
        if self._failure is None:
            self._failure = _lost()
        if self._transport is not None:
            self._transport.abort()

    def _write_piece(self, piece: bytes) -> None:
        if self._is_chunked and piece:
            self._write(b"%x\r\n" % len(piece))
            self._write(piece)
            self._write(b"\r\n")
        elif piece:
            self._write(piece)

    def _write(self, data: bytes) -> None:
        # One that is gone is told of by `head`, since an answer may have come before.
        if self._failure is None and self._transport is not None:
            self._transport.write(data)

    async def _progress(self) -> None:
        """Return when something has come."""
        if self._failure is not None:
            raise self._failure
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # ---- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none of its subclasses

    def data_received(self, data: bytes) -> None:
        if not self._is_busy:
            self.abort()  # nobody asked: whatever it is, it must not become the next request's answer
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._failure = InferenceError("What Triton's port answered cannot be read as HTTP.")
            self.abort()
        if self._num_waiting_bytes > _HIGH_WATER_BYTES and not self._is_reading_paused and self._transport is not None:
            self._is_reading_paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        names = {name for name, _ in self._headers}
        if self._is_head_whole and error is None and not names & {b"content-length", b"transfer-encoding"}:
            self._is_answer_whole = True  # its end is the connection's
        if self._failure is None:
            self._failure = _lost()
        self._is_writable.set()
        self._wake()

    def pause_writing(self) -> None:
        self._is_writable.clear()

    def resume_writing(self) -> None:
        self._is_writable.set()

    # ---- what httptools calls

    def on_message_begin(self) -> None:
        if self._is_answer_whole:
            self._is_kept = False  # a second answer to one request
        self._headers = [] if not self._is_head_whole else self._headers

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._is_head_whole:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if self._is_head_whole or status < 200:  # 100 Continue and its like are between Triton and us
            return
        self._status = status
        self._is_head_whole = True
        self._is_kept = self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        if not self._is_answer_whole:
            self._pieces.append(body)
            self._num_waiting_bytes += len(body)

    def on_message_complete(self) -> None:
        if self._is_head_whole:
            self._is_answer_whole = True


class Connections:
    """Connections to the Triton at `url`, opened as they are needed and kept. Used inside one event loop.

    It sets no limit: admission bounds what is in flight.
    """

    def __init__(self, url: str, *, connect_timeout_s: float) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._connect_timeout_s = connect_timeout_s
        self._idle: list[Connection] = []  # the one used last comes last
        # What the request line is followed by: where it goes, and as whom.
        self.host_headers = b"host: " + parts.netloc.rpartition("@")[2].encode() + b"\r\n"
        if parts.username is not None:
            credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            self.host_headers += b"authorization: Basic " + b64encode(credentials) + b"\r\n"

    def close(self) -> None:
        """Close what is kept. Connections in use close when their exchange ends."""
        for connection in self._idle:
            connection.abort()
        self._idle.clear()

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncGenerator[Connection, None]:
        """A connection for one exchange; it is closed where the exchange does not come to its end.

        Raises:
            TritonUnavailableError: Triton cannot be reached.
        """
        connection = self._kept() or await self._open()
        try:
            yield connection
        finally:
            connection.end()
            if connection.is_usable:
                self._idle.append(connection)

    def _kept(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable and time.monotonic() - connection.idle_since < _MAX_IDLE_S:
                return connection
            connection.abort()
        return None

    async def _open(self) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                _, connection = await loop.create_connection(Connection, self._host, self._port, ssl=self._tls)
        except (OSError, TimeoutError) as error:
            raise TritonUnavailableError(
                "Triton cannot be reached; nothing was run. Try again.", retry_after_s=2.0
            ) from error
        return connection


def _lost() -> TritonUnavailableError:
    return TritonUnavailableError(
        "The connection to Triton broke before it had answered; the request may have run.",
        code="triton_connection_lost",
        retry_after_s=2.0,
    )
