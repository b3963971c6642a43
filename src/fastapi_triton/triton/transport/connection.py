# SPDX-License-Identifier: Apache-2.0
"""One connection to Triton: requests written as they are, answers read as they come, or whole.

aiohttp does the same for twice the CPU and more. TLS, timeouts and flow control are asyncio's, the parser is uvicorn's
(httptools).
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import httptools

from fastapi_triton.triton.transport.circuit_breaker import Breaker
from fastapi_triton.triton.transport.errors import ended, lost, no_http
from fastapi_triton.triton.transport.tcp_keepalive import Liveness

Headers = Sequence[tuple[bytes, bytes]]
Pieces = Sequence[bytes | memoryview]

# An answer that is read faster than its reader takes it waits at Triton's end from here on.
_HIGH_WATER_BYTES = 256 * 1024
# Read at once from a connection; what the kernel keeps of a loopback connection is of this order.
_READ_BYTES = 256 * 1024
_JOINED_BYTES = 128 * 1024
# Memory that is taken because an answer says that it will be as long; a longer one takes it as it comes.
_MAX_ROOM_BYTES = 256 * 1024 * 1024


class AnswerHead(NamedTuple):
    """An answer's status and headers, names in lower case."""

    status: int
    headers: Headers


class Connection(asyncio.BufferedProtocol):
    """One connection, one exchange at a time: `start`, `write`, `finish`, then `head`, and `read` until it is whole.

    `ask` is all of that for an answer that is wanted whole. Where Triton says its length, the kernel writes it to where
    it stays: for a picture, the copies in between would cost more than everything else.

    Each of them raises `TritonUnavailableError` where the connection breaks, and `InferenceError` where what comes is
    no HTTP.
    """

    def __init__(self, breaker: Breaker) -> None:
        self.idle_since = 0.0
        self._breaker = breaker
        self._transport: asyncio.Transport | None = None
        self._liveness: Liveness | None = None
        self._failure: Exception | None = None  # why it is of no use any more
        self._is_writable = asyncio.Event()
        self._is_writable.set()
        self._waiter: asyncio.Future[None] | None = None
        self._is_busy = False
        self._on_end: Callable[[], None] | None = None  # set where nobody waits for the answer any more
        self._read_buffer = memoryview(bytearray(_READ_BYTES))
        self._is_parser_through = False  # it saw an answer to its end, and is fit for another
        self._reset()

    def _reset(self) -> None:
        if not self._is_parser_through:
            self._parser = httptools.HttpResponseParser(self)
        self._is_parser_through = False
        self._is_request_whole = False
        self._unsent: list[bytes] = []
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._is_head_whole = False
        self._is_answer_whole = False
        self._is_kept = False
        self._pieces: deque[bytes] = deque()
        self._num_waiting_bytes = 0
        self._is_reading_paused = False
        self._is_wanted_whole = False
        self._whole: memoryview | None = None  # of the answer's body, where its length is known
        self._num_read_bytes = 0  # of those
        self._is_expired = False

    # ---- what the frontend does

    @property
    def is_usable(self) -> bool:
        """Whether it can carry another exchange."""
        return self._failure is None and not self._is_busy

    @property
    def is_alive(self) -> bool:
        """Whether the other side has left it open, as far as this machine knows. Asked before it is used again."""
        return self._liveness is not None and self._liveness.is_alive()

    @property
    def is_answered(self) -> bool:
        """Whether Triton has answered, or gone; the rest of the request is then of no interest to it."""
        return self._is_head_whole or self._failure is not None

    def start(self, head: bytes) -> None:
        """Begin an exchange: the request line and headers, with the empty line that ends them."""
        self._reset()
        self._is_busy = True
        self._unsent = [head]  # it goes with the first of the body: one call into the kernel less

    async def write(self, piece: bytes) -> None:
        """Send a piece of the body, once Triton has taken enough of those before."""
        self._add(piece)
        self._flush()
        if not self._is_writable.is_set():
            await self._is_writable.wait()
            if self._is_expired:
                raise TimeoutError

    def finish(self, *pieces: bytes) -> None:
        """Send the last pieces of the body."""
        for piece in pieces:
            self._add(piece)
        self._flush()
        self._is_request_whole = True

    @property
    def is_flushed(self) -> bool:
        """Whether the kernel has all that was sent, or the connection is gone."""
        return self._failure is not None or self._transport is None or not self._transport.get_write_buffer_size()

    async def flushed(self) -> None:
        """Wait until the kernel has all that was sent, or the connection is gone."""
        if self.is_flushed or self._transport is None:
            return
        self._transport.set_write_buffer_limits(0)  # by which the transport says when it is empty
        try:
            await self._is_writable.wait()
        finally:
            self._transport.set_write_buffer_limits()

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

    async def ask(self, pieces: Pieces) -> tuple[AnswerHead, memoryview]:
        """One exchange, head and body in one go, whose answer is wanted whole."""
        self._reset()
        self._is_busy = self._is_wanted_whole = self._is_request_whole = True
        if self._failure is None and self._transport is not None:
            # Every write is a system call, and wakes Triton once more; joining costs less up to here.
            if sum(map(len, pieces)) <= _JOINED_BYTES:
                self._transport.write(b"".join(pieces))
            else:
                self._transport.writelines(pieces)
        while not self._is_answer_whole:
            await self._progress()
        body = self._whole if self._whole is not None else memoryview(b"".join(self._pieces))
        return AnswerHead(self._status, self._headers), body

    def expire(self) -> None:
        """Whoever waits for the answer meets a `TimeoutError`."""
        self._is_expired = True
        self._is_writable.set()
        self._wake()

    def fail(self, error: Exception) -> None:
        """Close it at once. Waiting for the answer raises this error."""
        if self._failure is None:
            self._failure = error
        self.abort()
        self._is_writable.set()
        self._wake()

    @property
    def is_awaited(self) -> bool:
        """Whether Triton has the whole request, as far as can be known here, and has not answered yet."""
        return (
            self._is_busy
            and self._is_request_whole
            and not self.is_answered
            and self._transport is not None
            and not self._transport.get_write_buffer_size()
        )

    @property
    def has_whole_answer(self) -> bool:
        return self._is_answer_whole

    @property
    def status(self) -> int:
        """The answer's; 0 before it is here."""
        return self._status

    def leave(self, on_end: Callable[[], None]) -> None:
        """Nobody waits for the answer any more: it is read and dropped. `on_end` is called after it, or without it."""
        self._on_end = on_end
        self._is_wanted_whole = True

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
            self._failure = lost()
        if self._transport is not None:
            self._transport.abort()

    def _add(self, piece: bytes) -> None:
        if piece:
            self._unsent.append(piece)

    def _flush(self) -> None:
        # One that is gone is told of by `head`, since an answer may have come before.
        if self._failure is None and self._transport is not None:
            self._transport.writelines(self._unsent)
        self._unsent = []

    def _progress(self) -> asyncio.Future[None]:
        """Done when something has come."""
        if self._failure is not None:
            raise self._failure
        if self._is_expired:
            raise TimeoutError
        self._waiter = asyncio.get_running_loop().create_future()
        return self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if self._on_end is not None and (self._is_answer_whole or self._failure is not None):
            on_end, self._on_end = self._on_end, None
            on_end()

    # ---- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none of its subclasses
        self._liveness = Liveness(transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        del sizehint
        if self._whole is not None and self._num_read_bytes < len(self._whole):
            return self._whole[self._num_read_bytes :]
        return self._read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._breaker.num_signs += 1
        if not self._is_busy:
            self.abort()  # nobody asked: whatever it is, it must not become the next request's answer
            return
        if self._whole is not None and self._num_read_bytes < len(self._whole):
            self._num_read_bytes += nbytes
            if self._num_read_bytes == len(self._whole):
                self._is_answer_whole = True
                self._wake()
            return
        self._parse(self._read_buffer[:nbytes])
        is_too_much = self._num_waiting_bytes > _HIGH_WATER_BYTES and not self._is_wanted_whole
        if is_too_much and not self._is_reading_paused and self._transport is not None:
            self._is_reading_paused = True
            self._transport.pause_reading()
        if self._is_answer_whole or not self._is_wanted_whole:
            self._wake()

    def _parse(self, data: memoryview) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._failure = no_http(data)
            self.abort()
            self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        names = {name for name, _ in self._headers}
        if self._is_head_whole and error is None and not names & {b"content-length", b"transfer-encoding"}:
            self._is_answer_whole = True  # its end is the connection's
        if self._failure is None:
            self._failure = ended(error)
            if self._is_busy:
                self._breaker.doubt.set()
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
        if self._is_wanted_whole and self._on_end is None:
            self._make_room()

    def _make_room(self) -> None:
        names = dict(self._headers)
        length = names.get(b"content-length", b"")
        if length.isdigit() and int(length) <= _MAX_ROOM_BYTES and b"transfer-encoding" not in names:
            self._whole = memoryview(bytearray(int(length)))

    def on_body(self, body: bytes) -> None:
        if self._whole is not None:
            self._whole[self._num_read_bytes : self._num_read_bytes + len(body)] = body
            self._num_read_bytes += len(body)
        elif not self._is_answer_whole and self._on_end is None:
            self._pieces.append(body)
            self._num_waiting_bytes += len(body)

    def on_message_complete(self) -> None:
        if not self._is_head_whole:
            return
        self._is_answer_whole = self._is_parser_through = True
        if self._whole is not None:
            self._whole = self._whole[: self._num_read_bytes]  # a status that never has a body may have a length
