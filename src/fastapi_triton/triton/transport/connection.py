# SPDX-License-Identifier: Apache-2.0
"""One connection to Triton: an HTTP/1.1 client for one request at a time.

aiohttp needs more than twice the CPU for the same. TLS, timeouts and flow control are asyncio's, the parser is
uvicorn's (httptools).
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import NamedTuple, Self, cast

import httptools

from fastapi_triton.triton.transport.circuit_breaker import CircuitBreaker
from fastapi_triton.triton.transport.errors import ended, lost, no_http
from fastapi_triton.triton.transport.tcp_keepalive import Liveness

Headers = Sequence[tuple[bytes, bytes]]
Pieces = Sequence[bytes | memoryview]

# Read-pause threshold: a response that arrives faster than it is read waits in Triton from here on.
_HIGH_WATER_BYTES = 256 * 1024
# Bytes for each read; the kernel buffers about as many for a loopback connection.
_READ_BYTES = 256 * 1024
# Every write is a system call and wakes Triton. Up to this size, joining the pieces costs less.
_JOINED_BYTES = 128 * 1024
# The most memory that is allocated because of a `Content-Length`; longer responses allocate as they arrive.
_MAX_PREALLOCATED_BYTES = 256 * 1024 * 1024
_LENGTHS = frozenset((b"content-length", b"transfer-encoding"))


class ResponseHead(NamedTuple):
    """A response's status and headers, names in lower case."""

    status: int
    headers: Headers


class State(Enum):
    """The phase of the current exchange; the names follow h11."""

    IDLE = auto()  # no exchange; the next one can start
    SEND_BODY = auto()  # the request is being sent
    AWAIT_RESPONSE = auto()  # the request is complete
    READ_BODY = auto()  # the response's head has arrived
    DONE = auto()  # the response is complete, and the connection stays open
    MUST_CLOSE = auto()  # the response is complete, and the connection cannot be used again
    CLOSED = auto()


_COMPLETE = (State.DONE, State.MUST_CLOSE)
_UNANSWERED = (State.SEND_BODY, State.AWAIT_RESPONSE)


class Connection(asyncio.BufferedProtocol):
    """One exchange at a time: `start`, `write`, `finish`, then `head`, and `read` until the response is complete.

    `request` does all of it and returns the whole response. If the response has a `Content-Length`, the kernel writes
    its body to its final place: for a picture, the copies in between would cost more than everything else.

    Each method raises `TritonUnavailableError` if the connection breaks, and `InferenceError` if the response is not
    HTTP.
    """

    _transport: asyncio.Transport
    _liveness: Liveness

    def __init__(self, breaker: CircuitBreaker) -> None:
        self.state = State.IDLE
        self.idle_since = 0.0
        self._breaker = breaker
        self._parser = httptools.HttpResponseParser(self)
        self._read_buffer = memoryview(bytearray(_READ_BYTES))
        self._is_writable = asyncio.Event()
        self._is_writable.set()
        self._waiter: asyncio.Future[None] | None = None
        self._on_end: Callable[[], None] | None = None  # set by `drain`
        self._reset()

    def _reset(self) -> None:
        self._error: Exception | None = None  # raised in the task that waits for the response
        self._is_wanted_whole = False
        self.status = 0  # until the response's head is complete
        self._headers: list[tuple[bytes, bytes]] = []
        self._can_keep_alive = False
        self._pieces: deque[bytes] = deque()
        self._num_unread_bytes = 0
        self._whole: memoryview | None = None  # the body, if its length is known and the caller reads it whole
        self._num_read_bytes = 0  # of it

    # ---- called by the frontend

    @property
    def is_alive(self) -> bool:
        """Whether the connection is still open, as far as this machine knows. Checked before each reuse."""
        return self._liveness.is_alive()

    @property
    def is_complete(self) -> bool:
        """Whether the whole response has arrived."""
        return self.state in _COMPLETE

    @property
    def is_awaited(self) -> bool:
        """Whether the whole request was sent and the response has not begun."""
        return self.state is State.AWAIT_RESPONSE and not self._transport.get_write_buffer_size()

    def start(self, *pieces: bytes | memoryview) -> None:
        """Begin an exchange: the request line, the headers with their final empty line, and a part of the body."""
        if self.state is State.IDLE:  # `head` reports a lost connection
            self.state = State.SEND_BODY
            self._send(pieces)

    async def write(self, piece: bytes) -> None:
        """Send a piece of the body, when enough of the previous pieces was sent."""
        if not self._transport.is_closing():  # otherwise `head` reports it, unless a response came first
            self._transport.write(piece)
        if not self._is_writable.is_set():
            await self._is_writable.wait()
            if self._error is not None and self.state is not State.CLOSED:
                raise self._error

    def finish(self) -> None:
        """The request is complete."""
        if self.state is State.SEND_BODY:  # a response may have come first
            self.state = State.AWAIT_RESPONSE

    @property
    def is_flushed(self) -> bool:
        """Whether the kernel has all written bytes, or the connection is lost."""
        return self.state is State.CLOSED or not self._transport.get_write_buffer_size()

    async def flushed(self) -> None:
        """Wait until `is_flushed`."""
        if self.is_flushed:
            return
        self._transport.set_write_buffer_limits(0)  # makes the transport report when it is empty
        try:
            await self._is_writable.wait()
        finally:
            self._transport.set_write_buffer_limits()

    async def head(self) -> ResponseHead:
        """The response's status and headers, as soon as they have arrived."""
        while not self.status:
            await self._progress()
        return ResponseHead(self.status, self._headers)

    async def read(self) -> tuple[bytes, bool]:
        """The next piece of the response's body, and whether more follow. Must not be called after the last."""
        while not self._pieces and self.state not in _COMPLETE:
            await self._progress()
        piece = self._pieces.popleft() if self._pieces else b""
        was_paused = self._num_unread_bytes > _HIGH_WATER_BYTES
        self._num_unread_bytes -= len(piece)
        if was_paused and self._num_unread_bytes <= _HIGH_WATER_BYTES:
            self._transport.resume_reading()
        return piece, bool(self._pieces) or self.state not in _COMPLETE

    def __aiter__(self) -> Self:
        """The pieces of the response's body. It is not a generator, so callers need not close it."""
        return self

    async def __anext__(self) -> bytes:
        if not self._pieces and self.state in _COMPLETE:
            raise StopAsyncIteration
        piece, _ = await self.read()
        return piece

    async def request(self, pieces: Pieces) -> tuple[ResponseHead, memoryview]:
        """One exchange, from the request's head to the end of the response."""
        self.start(*pieces)
        self.finish()
        self._is_wanted_whole = True
        while self.state not in _COMPLETE:
            await self._progress()
        body = self._whole if self._whole is not None else memoryview(b"".join(self._pieces))
        return ResponseHead(self.status, self._headers), body

    def expire(self) -> None:
        """Raise `TimeoutError` in the task that waits for the response. The connection stays as it is."""
        self._error = TimeoutError()
        self._is_writable.set()
        self._wake()

    def drain(self, on_end: Callable[[], None]) -> None:
        """Read the response and drop it. `on_end` is called when it is complete, or the connection is lost."""
        self._on_end = on_end
        self._is_wanted_whole = True

    def end(self) -> None:
        """The exchange is over. The connection is closed unless its response is complete and it can stay open."""
        if self.state is State.DONE:
            if self._num_unread_bytes > _HIGH_WATER_BYTES and not self._is_wanted_whole:
                self._transport.resume_reading()
            self._reset()
            self.state = State.IDLE
            self.idle_since = time.monotonic()
        else:
            self.state = State.CLOSED
            self._transport.abort()

    def fail(self, error: Exception) -> None:
        """Close the connection at once, with unsent bytes. Raise `error` in the task that waits for the response."""
        if self.state in _COMPLETE:
            self.state = State.MUST_CLOSE
        elif self.state is not State.CLOSED:
            self.state, self._error = State.CLOSED, error
        self._transport.abort()
        self._is_writable.set()
        self._wake()

    def abort(self) -> None:
        """Close the connection at once."""
        self.fail(lost())

    def _send(self, pieces: Pieces) -> None:
        if sum(map(len, pieces)) <= _JOINED_BYTES:
            self._transport.write(b"".join(pieces))
        else:
            self._transport.writelines(pieces)

    def _progress(self) -> asyncio.Future[None]:
        """A future that is done when data has arrived."""
        if self._error is not None:
            raise self._error
        self._waiter = asyncio.get_running_loop().create_future()
        return self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if self._on_end is not None and (self.state in _COMPLETE or self.state is State.CLOSED):
            on_end, self._on_end = self._on_end, None
            on_end()

    # ---- called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is not a subclass
        self._liveness = Liveness(transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        del sizehint
        if self._whole is not None and self._num_read_bytes < len(self._whole):
            return self._whole[self._num_read_bytes :]
        return self._read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._breaker.num_signs += 1
        if self.state is State.IDLE:
            self.abort()  # no request was sent: the data must not become the next request's response
            return
        if self._whole is not None and self._num_read_bytes < len(self._whole):
            self._num_read_bytes += nbytes
            if self._num_read_bytes == len(self._whole):
                self._parser = httptools.HttpResponseParser(self)  # the old parser has not seen the body
                self._complete()
                self._wake()
            return
        self._parse(self._read_buffer[:nbytes])
        if self._num_unread_bytes > _HIGH_WATER_BYTES and not self._is_wanted_whole:
            self._transport.pause_reading()
        if self.state in _COMPLETE or not self._is_wanted_whole:
            self._wake()

    def _parse(self, data: memoryview) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.fail(no_http(data))

    def connection_lost(self, error: Exception | None) -> None:
        if self.state is State.READ_BODY and error is None and _LENGTHS.isdisjoint(dict(self._headers)):
            self.state = State.MUST_CLOSE  # such a response ends with the connection
        if self.state not in (State.IDLE, State.CLOSED):
            self._breaker.doubt.set()
        self.fail(ended(error))

    def pause_writing(self) -> None:
        self._is_writable.clear()

    def resume_writing(self) -> None:
        self._is_writable.set()

    # ---- called by httptools

    def on_message_begin(self) -> None:
        if self.state is State.DONE:
            self.state = State.MUST_CLOSE  # a second response to one request
        elif self.state in _UNANSWERED:
            self._headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.status:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if self.status or status < 200:  # 100 Continue and the like are between Triton and the frontend
            return
        # A response that comes before the end of its request leaves the rest of it to be sent.
        self._can_keep_alive = self.state is State.AWAIT_RESPONSE and self._parser.should_keep_alive()
        self.status, self.state = status, State.READ_BODY
        if self._is_wanted_whole and self._on_end is None:
            self._preallocate()

    def _preallocate(self) -> None:
        names = dict(self._headers)
        length = names.get(b"content-length", b"")
        if length.isdigit() and int(length) <= _MAX_PREALLOCATED_BYTES and b"transfer-encoding" not in names:
            self._whole = memoryview(bytearray(int(length)))

    def on_body(self, body: bytes) -> None:
        if self._whole is not None:
            self._whole[self._num_read_bytes : self._num_read_bytes + len(body)] = body
            self._num_read_bytes += len(body)
        elif self.state is State.READ_BODY and self._on_end is None:
            self._pieces.append(body)
            self._num_unread_bytes += len(body)

    def on_message_complete(self) -> None:
        if self.state is not State.READ_BODY:
            return
        self._complete()
        if self._whole is not None:
            self._whole = self._whole[: self._num_read_bytes]  # a status without a body may come with a length

    def _complete(self) -> None:
        self.state = State.DONE if self._can_keep_alive else State.MUST_CLOSE
