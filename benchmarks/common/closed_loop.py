# SPDX-License-Identifier: Apache-2.0
"""Load generator: clients with a connection each send the next request when the last is answered (a closed loop)."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httptools

Check = Callable[[bytes], bool]


class BadAnswerError(Exception):
    """An answer was not what every peer has to answer: the measurement is void."""


@dataclass(slots=True)
class Loop:
    """What the callers share: what they ask, until when, and what came of it."""

    request: bytes
    check: Check
    ends_at: float = 0.0
    latencies: list[float] = field(default_factory=list)
    body_length: int | None = None  # of the first answer, which is checked byte by byte

    def take(self, status: int, body: list[bytes], latency: float) -> None:
        length = sum(map(len, body))
        if self.body_length is None:
            if status != 200 or not self.check(b"".join(body)):
                raise BadAnswerError(f"{status}: {b''.join(body)[:300]!r}")
            self.body_length = length
        elif status != 200 or length != self.body_length:
            raise BadAnswerError(f"{status} with {length} bytes instead of {self.body_length}: {body[0][:300]!r}")
        self.latencies.append(latency)


class Caller(asyncio.Protocol):
    """One of them. `done` is set once it has had its last answer."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._ask()

    def _ask(self) -> None:
        self._body: list[bytes] = []
        self._parser = httptools.HttpResponseParser(self)
        self._asked_at = time.perf_counter()
        self._transport.write(self._loop.request)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except BadAnswerError as error:
            self._fail(error)
        except httptools.HttpParserCallbackError as error:
            self._fail(error.__context__ or error)

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        now = time.perf_counter()
        self._loop.take(self._parser.get_status_code(), self._body, now - self._asked_at)
        if now < self._loop.ends_at:
            # Not from within the parser, which is replaced.
            asyncio.get_running_loop().call_soon(self._ask)
        elif not self.done.done():
            self.done.set_result(None)
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(error or ConnectionResetError("the connection was closed in the middle of a run"))

    def _fail(self, error: BaseException) -> None:
        if not self.done.done():
            self.done.set_exception(error)
            self._transport.abort()


async def drive(loop: Loop, port: int, *, concurrency: int, seconds: float) -> float:
    """Run the callers. Gives the seconds until the last answer had come."""
    started = time.perf_counter()
    loop.ends_at = started + seconds
    event_loop = asyncio.get_running_loop()
    callers = [
        (await event_loop.create_connection(lambda: Caller(loop), "127.0.0.1", port))[1] for _ in range(concurrency)
    ]
    await asyncio.gather(*(caller.done for caller in callers))
    return time.perf_counter() - started
