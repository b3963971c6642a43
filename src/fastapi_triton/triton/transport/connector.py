# SPDX-License-Identifier: Apache-2.0
"""Opens connections to Triton. Attempts may be repeated, because nothing was sent yet."""

import asyncio
import socket
import ssl
from functools import partial

from fastapi_triton.core.backoff import Backoff, pauses
from fastapi_triton.core.context import remaining_s
from fastapi_triton.core.errors import DeadlineExceededError, TritonUnavailableError
from fastapi_triton.triton.transport.address import Address
from fastapi_triton.triton.transport.circuit_breaker import CircuitBreaker
from fastapi_triton.triton.transport.connection import Connection
from fastapi_triton.triton.transport.credentials import Access
from fastapi_triton.triton.transport.errors import unreachable
from fastapi_triton.triton.transport.tcp_keepalive import KeepAlive
from fastapi_triton.triton.transport.tls import ClientTLS

# For each request. The circuit breaker limits all requests together: it opens after as many failures in a row.
MAX_ATTEMPTS = 3
FIRST_BACKOFF_S = 0.05


class Connector:
    """Opens connections to one Triton."""

    def __init__(
        self,
        address: Address,
        access: Access,
        *,
        connect_timeout_s: float,
        keep_alive: KeepAlive,
        breaker: CircuitBreaker,
    ) -> None:
        self._address = address
        self._tls = ClientTLS(access) if address.is_tls else None
        self._connect_timeout_s = connect_timeout_s
        self._keep_alive = keep_alive
        self._breaker = breaker

    async def connect(self) -> Connection:
        """A connection for a request, within its deadline. A refused or reset attempt is repeated, a timeout is not.

        Raises:
            TritonUnavailableError: none could be opened.
            DeadlineExceededError: the request's deadline passed first, which is not a failure of Triton.
        """
        for pause_s in pauses(Backoff(FIRST_BACKOFF_S), max_attempts=MAX_ATTEMPTS):
            if pause_s:
                await asyncio.sleep(pause_s)
            self._breaker.require_closed()
            try:
                return await self.connect_once()
            except TritonUnavailableError as error:
                self._breaker.failed(error)
                if isinstance(error.__cause__, TimeoutError | ssl.SSLError | socket.gaierror):
                    raise  # another attempt would fail too
                failure = error
        raise failure

    async def connect_once(self) -> Connection:
        """A connection, even while the circuit breaker is open.

        Raises:
            TritonUnavailableError, DeadlineExceededError: as `connect`, with the cause.
        """
        address, loop = self._address, asyncio.get_running_loop()
        timeout_s = remaining_s(self._connect_timeout_s)
        try:
            tls = self._tls.context() if self._tls else None
            async with asyncio.timeout(timeout_s):
                transport, connection = await loop.create_connection(
                    partial(Connection, self._breaker), address.host, address.port, ssl=tls
                )
        except (OSError, TimeoutError) as error:
            if isinstance(error, TimeoutError) and timeout_s < self._connect_timeout_s:
                raise DeadlineExceededError(
                    "The request's deadline passed while the frontend connected to Triton. Nothing was run."
                ) from error
            raise unreachable(error, is_tls=address.is_tls) from error
        self._keep_alive.apply(transport)
        return connection

    async def meets_tls(self) -> bool:
        """Whether the port speaks TLS although its URL says http. Many such servers only close the connection."""
        if self._address.is_tls:
            return False
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connecting = asyncio.open_connection(self._address.host, self._address.port, ssl=context)
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                _, writer = await connecting
        except (OSError, TimeoutError):
            return False
        writer.transport.abort()
        return True
