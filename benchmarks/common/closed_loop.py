# SPDX-License-Identifier: Apache-2.0
"""Load generator: each client has a connection and sends its next request after the last response (a closed loop)."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httptools

Check = Callable[[bytes], bool]


class BadResponseError(Exception):
    """A response differs from the expected one, so the measurement is invalid."""


@dataclass(slots=True)
class Loop:
    """State that the clients share: their request, the end time and the results."""

    request: bytes
    check: Check
    ends_at: float = 0.0
    latencies: list[float] = field(default_factory=list)
    body_length: int | None = None  # of the first response, which is checked byte by byte

    def take(self, status: int, body: list[bytes], latency: float) -> None:
        length = sum(map(len, body))
        if self.body_length is None:
            if status != 200 or not self.check(b"".join(body)):
                raise BadResponseError(f"{status}: {b''.join(body)[:300]!r}")
            self.body_length = length
        elif status != 200 or length != self.body_length:
            raise BadResponseError(f"{status} with {length} bytes instead of {self.body_length}: {body[0][:300]!r}")
        self.latencies.append(latency)


class Client(asyncio.Protocol):
    """A client. `done` is set after its last response."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._send()

    def _send(self) -> None:
        self._body: list[bytes] = []
        self._parser = httptools.HttpResponseParser(self)
        self._sent_at = time.perf_counter()
        self._transport.write(self._loop.request)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except BadResponseError as error:
            self._fail(error)
        except httptools.HttpParserCallbackError as error:
            self._fail(error.__context__ or error)

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        now = time.perf_counter()
        self._loop.take(self._parser.get_status_code(), self._body, now - self._sent_at)
        if now < self._loop.ends_at:
            # Later, because the next request replaces the parser that is running.
            asyncio.get_running_loop().call_soon(self._send)
        elif not self.done.done():
            self.done.set_result(None)
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(error or ConnectionResetError("the server closed the connection during a run"))

    def _fail(self, error: BaseException) -> None:
        if not self.done.done():
            self.done.set_exception(error)
            self._transport.abort()


async def drive(loop: Loop, port: int, *, concurrency: int, seconds: float) -> float:
    """Run the clients. Returns the seconds until the last response."""
    started = time.perf_counter()
    loop.ends_at = started + seconds
    event_loop = asyncio.get_running_loop()
    clients = [
        (await event_loop.create_connection(lambda: Client(loop), "127.0.0.1", port))[1] for _ in range(concurrency)
    ]
    await asyncio.gather(*(client.done for client in clients))
    return time.perf_counter() - started
