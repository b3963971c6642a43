# SPDX-License-Identifier: Apache-2.0
"""Keep-alive connections to the frontend, one for each concurrent request, with the times of each response."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import httptools
import orjson

# Servers close connections that are idle; uvicorn does after 5 s.
MAX_IDLE_S = 2.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. `due` is when the request should have gone, `sent` when it went, `done` when the answer was there."""

    status: int
    code: str  # of an error
    retry_after_s: float | None
    due: float
    sent: float
    done: float

    @property
    def latency_s(self) -> float:
        """Since it should have gone, so that a busy caller hides nothing."""
        return self.done - self.due


class Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, pool: "ConnectionPool") -> None:
        self._pool = pool
        self.idle_since = 0.0
        self.is_asking = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def ask(self, request: bytes, due: float) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._body = b""
        self._retry_after_s: float | None = None
        self.is_asking = True
        self._due, self._sent = due, time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"retry-after":
            self._retry_after_s = float(value)

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self.is_asking = False
        status = self._parser.get_status_code()
        code = "" if status == 200 else orjson.loads(self._body)["code"]
        told = Answer(status, code, self._retry_after_s, self._due, self._sent, time.perf_counter())
        # Not from within the parser, which is replaced.
        asyncio.get_running_loop().call_soon(self._pool.answered, self, told)

    def connection_lost(self, error: Exception | None) -> None:
        del error
        self._pool.lost(self)

    def close(self) -> None:
        self._transport.close()


class ConnectionPool:
    """As many connections as there were requests at once."""

    def __init__(self, port: int, on_answer: Callable[[Answer], None]) -> None:
        self.num_waiting = 0
        self.num_lost = 0
        self._port = port
        self._on_answer = on_answer
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()

    def ask(self, request: bytes, due: float) -> None:
        self.num_waiting += 1
        now = time.perf_counter()
        while self._idle:
            connection = self._idle.pop()
            if now - connection.idle_since < MAX_IDLE_S:
                connection.ask(request, due)
                return
            connection.close()
        opening = asyncio.create_task(self._open(request, due))
        self._opening.add(opening)
        opening.add_done_callback(self._opening.discard)

    async def _open(self, request: bytes, due: float) -> None:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: Connection(self), "127.0.0.1", self._port)
        self._all.add(connection)
        connection.ask(request, due)

    def answered(self, connection: Connection, answer: Answer) -> None:
        self.num_waiting -= 1
        if connection in self._all:
            connection.idle_since = answer.done
            self._idle.append(connection)
        self._on_answer(answer)

    def lost(self, connection: Connection) -> None:
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        elif connection.is_asking:
            self.num_lost += 1

    async def settled(self) -> None:
        """Every request has its answer."""
        while self.num_waiting > self.num_lost:  # noqa: ASYNC110 (answers are counted where they come)
            await asyncio.sleep(0.05)

    def close(self) -> None:
        for connection in tuple(self._all):
            connection.close()
