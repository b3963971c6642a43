# SPDX-License-Identifier: Apache-2.0
"""A pool of connections to one Triton: opened on demand and reused."""

import asyncio
import functools
import time
from contextlib import AbstractAsyncContextManager
from types import TracebackType

from starlette.types import Receive

from fastapi_triton.core.disconnect import cancel_on_disconnect
from fastapi_triton.core.errors import TritonUnavailableError
from fastapi_triton.core.slot import Slot, current_slot
from fastapi_triton.triton.transport.address import Address
from fastapi_triton.triton.transport.circuit_breaker import CircuitBreaker
from fastapi_triton.triton.transport.connection import Connection, Pieces, ResponseHead, State
from fastapi_triton.triton.transport.connector import Connector
from fastapi_triton.triton.transport.credentials import OPEN_TO_ALL, Access, HeaderLines
from fastapi_triton.triton.transport.errors import LOST, broken_off, wrong_scheme
from fastapi_triton.triton.transport.tcp_keepalive import KEEP_ALIVE, KeepAlive

# Load balancers and NAT drop idle connections, but none earlier than after 60 s.
_MAX_IDLE_S = 60.0


class ConnectionPool:
    """Connections to the Triton at `url`, opened on demand and reused. Used inside one event loop.

    It sets no limit: admission bounds the number of requests in flight.
    """

    def __init__(
        self, url: str, *, connect_timeout_s: float, access: Access = OPEN_TO_ALL, keep_alive: KeepAlive = KEEP_ALIVE
    ) -> None:
        self.address = Address.of(url)
        self.headers = HeaderLines(self.address, access)
        self.breaker = CircuitBreaker(
            str(self.address), on_open=self._close_idle
        )  # kept connections are older than the outage
        self._connector = Connector(
            self.address, access, connect_timeout_s=connect_timeout_s, keep_alive=keep_alive, breaker=self.breaker
        )
        self._idle: list[Connection] = []  # the most recently used is last
        self._drained: set[Connection] = set()

    def close(self) -> None:
        """Close idle and drained connections. Those in use close when their exchange ends."""
        self._close_idle()
        for connection in tuple(self._drained):
            connection.abort()

    def exchange(
        self, *, timeout_s: float | None = None, is_cancelled_by_closing: bool = False, receive: Receive | None = None
    ) -> AbstractAsyncContextManager[Connection]:
        """A connection for one request: `async with pool.exchange() as connection`.

        Args:
            timeout_s: the longest duration of the exchange, without connecting.
            is_cancelled_by_closing: whether Triton stops working when the connection closes. If it does not, and the
                exchange ends while Triton works on the request, the response is read to its end, and the request's
                slot is held until then.
            receive: reports a client that disconnects while a connection is opened.

        Raises:
            TritonUnavailableError: Triton cannot be reached.
            ClientDisconnectedError: the client disconnected before there was a connection.
        """
        return _Exchange(self, timeout_s, is_cancelled_by_closing, receive)

    async def request(self, pieces: Pieces, *, timeout_s: float) -> tuple[ResponseHead, memoryview]:
        """The complete response to a request. `pieces` are the request's head and body.

        Raises:
            TritonUnavailableError: Triton cannot be reached, or the connection broke.
            TimeoutError: no response within `timeout_s`, without connecting.
            InferenceError: the response is not HTTP.
        """
        async with self.exchange(timeout_s=timeout_s) as connection:
            return await connection.request(pieces)

    async def probe(self, pieces: Pieces, *, timeout_s: float) -> None:
        """Send a request that changes nothing over a new connection, even while the circuit breaker is open.

        Raises:
            TritonUnavailableError, TimeoutError, InferenceError: as `request`; any status is a response.
        """
        connection = await self._connector.connect_once()
        timer = asyncio.get_running_loop().call_later(timeout_s, connection.expire)
        try:
            await connection.request(pieces)
        except TritonUnavailableError as error:
            if error.code != LOST:
                raise
            meets_tls = await self._connector.meets_tls()
            raise wrong_scheme() if meets_tls else broken_off(is_tls=self.address.is_tls) from error
        finally:
            timer.cancel()
            self._give_back(connection)

    def _take_idle(self) -> Connection | None:
        self.breaker.require_closed()
        while self._idle:
            connection = self._idle.pop()
            is_fresh = time.monotonic() - connection.idle_since < _MAX_IDLE_S
            if is_fresh and connection.state is State.IDLE and connection.is_alive:
                return connection
            connection.abort()
        return None

    async def _open(self, receive: Receive | None) -> Connection:
        if receive is None:
            return await self._connector.connect()
        opened: list[Connection] = []

        async def connect() -> None:
            opened.append(await self._connector.connect())

        try:
            await cancel_on_disconnect(receive, connect())
        except BaseException:
            for connection in opened:  # just when the request was cancelled
                connection.abort()
            raise
        return opened[0]

    def _give_back(self, connection: Connection) -> None:
        connection.end()
        if connection.state is State.IDLE:
            if self.breaker.num_failures:
                self.breaker.answered()
            self._idle.append(connection)

    def _drain(self, connection: Connection, slot: Slot) -> None:
        """Read the response to an abandoned request to its end. The request holds its slot until then."""
        slot.hold()
        self._drained.add(connection)
        connection.drain(functools.partial(self._end_drain, connection, slot))

    def _end_drain(self, connection: Connection, slot: Slot) -> None:
        self._drained.discard(connection)
        is_completed = connection.is_complete
        self._give_back(connection)
        slot.release(is_completed=is_completed)

    def _close_idle(self) -> None:
        for connection in self._idle:
            connection.abort()
        self._idle.clear()


class _Exchange:
    """The context that `ConnectionPool.exchange` returns. A class: a generator costs a tenth of an exchange."""

    __slots__ = ("_connection", "_is_cancelled_by_closing", "_pool", "_receive", "_timeout_s", "_timer")
    _connection: Connection

    def __init__(
        self, pool: ConnectionPool, timeout_s: float | None, is_cancelled_by_closing: bool, receive: Receive | None
    ) -> None:
        self._pool = pool
        self._timeout_s = timeout_s
        self._is_cancelled_by_closing = is_cancelled_by_closing
        self._receive = receive
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Connection:
        connection = self._connection = self._pool._take_idle() or await self._pool._open(self._receive)
        if self._timeout_s is not None:
            self._timer = asyncio.get_running_loop().call_later(self._timeout_s, connection.expire)
        return connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        connection = self._connection
        if self._timer is not None:
            self._timer.cancel()
        if connection.is_awaited and not self._is_cancelled_by_closing:
            slot = current_slot.get()
            if slot is not None and slot.is_taken:
                self._pool._drain(connection, slot)
                return
        self._pool._give_back(connection)
