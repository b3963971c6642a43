# SPDX-License-Identifier: Apache-2.0
"""Detects a Triton that does not respond. While it is away, checks several times a second."""

import asyncio
import math
import time
from collections.abc import Generator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress

from fastapi_triton.core.background import BackgroundTask
from fastapi_triton.core.backoff import Backoff
from fastapi_triton.core.errors import InferenceError, TritonUnavailableError
from fastapi_triton.triton.transport.circuit_breaker import AWAY_INTERVAL_S
from fastapi_triton.triton.transport.errors import silent
from fastapi_triton.triton.transport.pool import ConnectionPool

# The timeout of each of two checks; the second uses a new connection.
CHECK_TIMEOUT_S = 2.5
FIRST_BACKOFF_S = 0.05
# It sends no checks of its own for this many intervals after another component's last status request.
_PATIENCE = 2.0


class HealthCheck:
    """Opens the circuit breaker when Triton is silent, and closes it when Triton responds.

    Normally it sends a check every `interval_s`, unless other code sends a `status_request`. Silent means two
    checks in a row without a response, and no byte on any other connection meanwhile. While a model works for minutes,
    Triton still responds to checks. Any status is a response, also that of a load balancer.
    """

    def __init__(self, pool: ConnectionPool, *, interval_s: float) -> None:
        self._pool = pool
        self._breaker = pool.breaker
        self._interval_s = interval_s
        self._backoff = Backoff(FIRST_BACKOFF_S, AWAY_INTERVAL_S)
        self._asked_at = -math.inf
        self._is_unanswered = False
        self._request_line = f"GET {pool.address.path}/v2/health/live HTTP/1.1\r\n".encode()

    def running(self) -> AbstractAsyncContextManager[None]:
        """Run the checks for the duration of the block."""
        return BackgroundTask(
            "Triton heartbeat",
            consequence="The frontend detects late that Triton does not respond, or is back.",
            longest_backoff_s=AWAY_INTERVAL_S,
        ).repeating(self._run_when_due)

    @contextmanager
    def status_request(self) -> Generator[None, None, None]:
        """Entered while another component waits for a response: its request counts as the first of the two checks."""
        self._asked_at = time.monotonic()
        late = asyncio.get_running_loop().call_later(CHECK_TIMEOUT_S, self._doubt, self._breaker.num_signs)
        try:
            yield
        finally:
            late.cancel()

    def _doubt(self, num_signs: int) -> None:
        if self._breaker.num_signs == num_signs:
            self._is_unanswered = True
            self._breaker.doubt.set()

    async def _run_when_due(self) -> float:
        if self._breaker.num_failures == 0 and self._breaker.error is None:
            await self._until_doubt(self._interval_s)
            self._backoff.reset()
            is_asked = time.monotonic() - self._asked_at < _PATIENCE * self._interval_s
            if is_asked and not self._breaker.doubt.is_set():
                return 0.0
        else:
            await self._backoff.sleep()
        await self.run()
        return 0.0

    async def _until_doubt(self, timeout_s: float) -> None:
        """Wait until a connection has failed, or for this time."""
        self._breaker.doubt.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await self._breaker.doubt.wait()
        except TimeoutError:
            return

    async def run(self) -> None:
        """Check, and repeat it over a new connection if there is no response: the old connection may be dead."""
        signs = self._breaker.num_signs
        try:
            request = (self._request_line, self._pool.headers.lines(), b"\r\n")
            is_unanswered, self._is_unanswered = self._is_unanswered, False
            if self._breaker.error is None and not is_unanswered:
                with suppress(TimeoutError, TritonUnavailableError, InferenceError):
                    await self._pool.request(request, timeout_s=CHECK_TIMEOUT_S)
                    self._breaker.close()
                    return
            await self._pool.probe(request, timeout_s=CHECK_TIMEOUT_S)
        except TimeoutError:
            if self._breaker.num_signs == signs:
                self._breaker.open(silent(2 * CHECK_TIMEOUT_S))
        except TritonUnavailableError as error:
            self._breaker.failed(error)
        except InferenceError as error:
            self._breaker.failed(TritonUnavailableError(error.detail, retry_after_s=error.retry_after_s))
        else:
            self._breaker.close()
