# SPDX-License-Identifier: Apache-2.0
"""The connections to one Triton: opened as they are needed, kept, and used again."""

import asyncio
import functools
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from fastapi_triton.core.errors import TritonUnavailableError
from fastapi_triton.triton.transport.address import Address
from fastapi_triton.triton.transport.circuit_breaker import Breaker
from fastapi_triton.triton.transport.connection import AnswerHead, Connection, Pieces
from fastapi_triton.triton.transport.connector import Dialer
from fastapi_triton.triton.transport.credentials import OPEN_TO_ALL, Access, HeaderLines
from fastapi_triton.triton.transport.errors import LOST, broken_off, wrong_scheme
from fastapi_triton.triton.transport.left_behind import LeftBehind
from fastapi_triton.triton.transport.tcp_keepalive import KEEP_ALIVE, KeepAlive
from fastapi_triton.triton.transport.timeouts import Expiry

# Balancers and address translation forget a connection that is silent for longer; 60 s is what all of them keep.
_MAX_IDLE_S = 60.0

Running = Callable[[Connection], AbstractContextManager[None]]
_NOTHING = nullcontext()


def alone(_: Connection) -> AbstractContextManager[None]:
    """For an exchange that nothing but its own connection ends."""
    return _NOTHING


class Connections:
    """Connections to the Triton at `url`, opened as they are needed and kept. Used inside one event loop.

    It sets no limit: admission bounds what is in flight.
    """

    def __init__(
        self, url: str, *, connect_timeout_s: float, access: Access = OPEN_TO_ALL, keep_alive: KeepAlive = KEEP_ALIVE
    ) -> None:
        self.address = Address.of(url)
        self.headers = HeaderLines(self.address, access)
        self.breaker = Breaker(on_open=self._close_kept)  # what is kept is older than the outage
        self._make = functools.partial(Connection, self.breaker)
        self._dialer = Dialer(
            self.address, access, connect_timeout_s=connect_timeout_s, keep_alive=keep_alive, breaker=self.breaker
        )
        self._idle: list[Connection] = []  # the one used last comes last
        self._left = LeftBehind(self._give_back)
        self.expiry = Expiry()

    def close(self) -> None:
        """Close what nobody waits for. Connections in use close when their exchange ends."""
        self._close_kept()
        self._left.abort()
        self.expiry.close()

    def _close_kept(self) -> None:
        for connection in self._idle:
            connection.abort()
        self._idle.clear()

    def leave(self, connection: Connection) -> None:
        """Nobody waits for its answer any more, while Triton may still work on it."""
        self._left.add(connection)

    async def ask(self, pieces: Pieces, *, timeout_s: float, running: Running = alone) -> tuple[AnswerHead, memoryview]:
        """One exchange: the answer's head and its whole body. `pieces` are the request's head and body.

        The context that `running` gives for the connection lasts as long as the exchange.

        Raises:
            TritonUnavailableError: Triton cannot be reached, or the connection broke.
            TimeoutError: no answer within `timeout_s`, from when there is a connection.
            InferenceError: the answer is no HTTP.
        """
        connection = self.take_idle() or await self._dialer.dial(self._make)
        self.expiry.add(connection, timeout_s)
        try:
            with running(connection):
                return await connection.ask(pieces)
        except (asyncio.CancelledError, TimeoutError):
            self._left.add(connection)
            raise
        finally:
            self.expiry.remove(connection)
            self.give_back(connection)

    async def probe(self, pieces: Pieces, *, timeout_s: float) -> None:
        """Ask what changes nothing, over a connection of its own, even where the breaker lets nothing pass.

        Raises:
            TritonUnavailableError, TimeoutError, InferenceError: as `ask`; any status is an answer.
        """
        connection = await self._dialer.dial_once(self._make)
        self.expiry.add(connection, timeout_s)
        try:
            await connection.ask(pieces)
        except TritonUnavailableError as error:
            if error.code != LOST:
                raise
            meets_tls = await self._dialer.meets_tls()
            raise wrong_scheme() if meets_tls else broken_off(is_tls=self.address.is_tls) from error
        finally:
            self.expiry.remove(connection)
            self._give_back(connection)

    async def take(self) -> Connection:
        """A connection for one exchange, to be given back.

        Raises:
            TritonUnavailableError: Triton cannot be reached.
        """
        return self.take_idle() or await self._dialer.dial(self._make)

    def take_idle(self) -> Connection | None:
        """An open connection from the pool, else None.

        Raises:
            TritonUnavailableError: the breaker is open.
        """
        self.breaker.require_closed()
        while self._idle:
            connection = self._idle.pop()
            is_fresh = time.monotonic() - connection.idle_since < _MAX_IDLE_S
            if is_fresh and connection.is_usable and connection.is_alive:
                return connection
            connection.abort()
        return None

    def give_back(self, connection: Connection) -> None:
        """Its exchange is over, unless it was left; it is closed where the exchange did not come to its end."""
        if connection not in self._left:
            self._give_back(connection)

    def _give_back(self, connection: Connection) -> None:
        connection.end()
        if connection.is_usable:
            if self.breaker.num_failures:
                self.breaker.answered()
            self._idle.append(connection)
