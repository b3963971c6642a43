# SPDX-License-Identifier: Apache-2.0
"""A circuit breaker: while Triton is unreachable, requests fail at once instead of waiting for a timeout."""

import asyncio
import logging
import time
from collections.abc import Callable

from fastapi_triton.core.errors import TritonUnavailableError

logger = logging.getLogger(__name__)

# Failed connection attempts in a row, with no response from Triton in between.
MAX_FAILURES = 3
# The interval of health checks while Triton is away: a refused connection costs microseconds.
AWAY_INTERVAL_S = 0.25
LEAST_RETRY_AFTER_S, MOST_RETRY_AFTER_S = 1.0, 30.0


class CircuitBreaker:
    """While it is closed, requests pass. While it is open, they fail at once, until Triton responds to a health check.

    It opens if no connection can be made, or if Triton does not respond at all. A response never opens it, whatever its
    status, because the error of one model is not an error of the server.

    Args:
        address: Triton's, without credentials, for the log.
        on_open: called when it opens.
    """

    def __init__(self, address: str, *, on_open: Callable[[], None]) -> None:
        self._address = address
        self.error: TritonUnavailableError | None = None  # the reason, while it is open
        self.num_failures = 0
        self.num_signs = 0  # bytes from any connection
        self.doubt = asyncio.Event()  # set to request a health check
        self._since = 0.0
        self._on_open = on_open
        self.on_change: Callable[[], None] = lambda: None  # called after it opened or closed

    def require_closed(self) -> None:
        """Raise the reason if it is open. `Retry-After` is the duration of the outage so far.

        Raises:
            TritonUnavailableError: the circuit breaker is open.
        """
        if self.error is None:
            return
        away_s = time.monotonic() - self._since
        raise TritonUnavailableError(
            self.error.detail,
            reason=self.error.reason,
            code=self.error.code,
            retry_after_s=min(max(away_s, LEAST_RETRY_AFTER_S), MOST_RETRY_AFTER_S),
        )

    def failed(self, error: TritonUnavailableError) -> None:
        """Count a failed connection attempt."""
        self.num_failures += 1
        self.doubt.set()
        if self.num_failures >= MAX_FAILURES:
            self.open(error)

    def open(self, error: TritonUnavailableError) -> None:
        """Open: requests fail from now on."""
        if self.error is None:
            if self.num_signs:
                logger.warning("Triton at %s is away, so requests fail: %s", self._address, error.reason)
            else:  # both may be starting
                logger.info("Triton at %s is not running yet: %s", self._address, error.reason)
            self._since = time.monotonic()
            self.error = error
            self._on_open()
            self.on_change()
        self.error = error

    def answered(self) -> None:
        """Triton has responded to a request: reset the count of failures. Only `close` closes an open breaker."""
        if self.error is None:
            self.num_failures = 0

    def close(self) -> None:
        """Close: Triton responds."""
        self.num_failures = 0
        if self.error is not None:
            logger.info("Triton at %s responds after %.1f s", self._address, time.monotonic() - self._since)
            self.error = None
            self.on_change()
