# SPDX-License-Identifier: Apache-2.0
"""Making connections to Triton. Nothing has been sent before there is one, so this may be tried again."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import TypeVar

from fastapi_triton.core.backoff import Backoff, pauses
from fastapi_triton.core.context import remaining_s
from fastapi_triton.core.errors import DeadlineExceededError, TritonUnavailableError
from fastapi_triton.triton.transport.address import Address
from fastapi_triton.triton.transport.circuit_breaker import Breaker
from fastapi_triton.triton.transport.credentials import Access
from fastapi_triton.triton.transport.errors import unreachable
from fastapi_triton.triton.transport.tcp_keepalive import KeepAlive
from fastapi_triton.triton.transport.tls import ClientTLS

# For one request. For all of them together the breaker is the budget: it opens after as many failures in a row.
MAX_ATTEMPTS = 3
FIRST_BACKOFF_S = 0.05

Protocol = TypeVar("Protocol", bound=asyncio.BaseProtocol)


class Dialer:
    """Makes connections to one Triton."""

    def __init__(
        self, address: Address, access: Access, *, connect_timeout_s: float, keep_alive: KeepAlive, breaker: Breaker
    ) -> None:
        self._address = address
        self._tls = ClientTLS(access) if address.is_tls else None
        self._connect_timeout_s = connect_timeout_s
        self._keep_alive = keep_alive
        self._breaker = breaker

    async def dial(self, make: Callable[[], Protocol]) -> Protocol:
        """A connection for a request, within its deadline. Where one is refused or reset, another is tried.

        One that takes all its time is not: whoever waits has waited long enough.

        Raises:
            TritonUnavailableError: there is none.
            DeadlineExceededError: the request's deadline came first, which says nothing about Triton.
        """
        for pause_s in pauses(Backoff(FIRST_BACKOFF_S), max_attempts=MAX_ATTEMPTS):
            await asyncio.sleep(pause_s)
            self._breaker.require_closed()
            try:
                return await self.dial_once(make)
            except TritonUnavailableError as error:
                self._breaker.failed(error)
                if isinstance(error.__cause__, TimeoutError | ssl.SSLError | socket.gaierror):
                    raise  # another attempt would fail too
                failure = error
        raise failure

    async def dial_once(self, make: Callable[[], Protocol]) -> Protocol:
        """A connection, whether or not the breaker lets requests pass.

        Raises:
            TritonUnavailableError, DeadlineExceededError: as `dial`; the cause says why.
        """
        address, loop = self._address, asyncio.get_running_loop()
        timeout_s = remaining_s(self._connect_timeout_s)
        try:
            tls = self._tls.context() if self._tls else None
            async with asyncio.timeout(timeout_s):
                transport, protocol = await loop.create_connection(make, address.host, address.port, ssl=tls)
        except (OSError, TimeoutError) as error:
            if isinstance(error, TimeoutError) and timeout_s < self._connect_timeout_s:
                raise DeadlineExceededError("There was no time left to reach Triton; nothing was run.") from error
            raise unreachable(error, is_tls=address.is_tls) from error
        self._keep_alive.apply(transport)
        return protocol

    async def meets_tls(self) -> bool:
        """Whether the port, though its URL says http, speaks TLS: many servers say nothing, and close."""
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
