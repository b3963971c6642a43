# SPDX-License-Identifier: Apache-2.0
"""Keep-alive connections to the frontend, one for each concurrent request, with the times of each response."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import httptools
import orjson

# Servers close idle connections; uvicorn does so after 5 s.
MAX_IDLE_S = 2.0


@dataclass(frozen=True, slots=True)
class Response:
    """One response. The request was due at `due` and sent at `sent`; the response was complete at `done`."""

    status: int
    code: str  # of an error
    retry_after_s: float | None
    due: float
    sent: float
    done: float

    @property
    def latency_s(self) -> float:
        """Latency since the request was due, so that a busy client hides no delay."""
        return self.done - self.due


class Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, pool: "ConnectionPool") -> None:
        self._pool = pool
        self.idle_since = 0.0
        self.is_busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def send(self, request: bytes, due: float) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._body = b""
        self._retry_after_s: float | None = None
        self.is_busy = True
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
        self.is_busy = False
        status = self._parser.get_status_code()
        code = "" if status == 200 else orjson.loads(self._body)["code"]
        response = Response(status, code, self._retry_after_s, self._due, self._sent, time.perf_counter())
        # Later, because the next request replaces the parser that is running.
        asyncio.get_running_loop().call_soon(self._pool.on_complete, self, response)

    def connection_lost(self, error: Exception | None) -> None:
        del error
        self._pool.lost(self)

    def close(self) -> None:
        self._transport.close()


class ConnectionPool:
    """As many connections as concurrent requests."""

    def __init__(self, port: int, on_response: Callable[[Response], None]) -> None:
        self.num_waiting = 0
        self.num_lost = 0
        self._port = port
        self._on_response = on_response
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()

    def send(self, request: bytes, due: float) -> None:
        self.num_waiting += 1
        now = time.perf_counter()
        while self._idle:
            connection = self._idle.pop()
            if now - connection.idle_since < MAX_IDLE_S:
                connection.send(request, due)
                return
            connection.close()
        opening = asyncio.create_task(self._open(request, due))
        self._opening.add(opening)
        opening.add_done_callback(self._opening.discard)

    async def _open(self, request: bytes, due: float) -> None:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: Connection(self), "127.0.0.1", self._port)
        self._all.add(connection)
        connection.send(request, due)

    def on_complete(self, connection: Connection, response: Response) -> None:
        self.num_waiting -= 1
        if connection in self._all:
            connection.idle_since = response.done
            self._idle.append(connection)
        self._on_response(response)

    def lost(self, connection: Connection) -> None:
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        elif connection.is_busy:
            self.num_lost += 1

    async def settled(self) -> None:
        """Wait until every request has its response."""
        while self.num_waiting > self.num_lost:  # noqa: ASYNC110 (responses are counted as they arrive)
            await asyncio.sleep(0.05)

    def close(self) -> None:
        for connection in tuple(self._all):
            connection.close()
