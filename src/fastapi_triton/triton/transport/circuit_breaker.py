# SPDX-License-Identifier: Apache-2.0
"""A circuit breaker: while Triton is unreachable, requests fail at once instead of waiting for a timeout."""

import asyncio
import logging
import time
from collections.abc import Callable

from fastapi_triton.core.errors import TritonUnavailableError

logger = logging.getLogger(__name__)

# Connections in a row that could not be made, with not one word from Triton in between.
MAX_FAILURES = 3
# How often an absent Triton is looked for: a refused connection costs microseconds.
AWAY_INTERVAL_S = 0.25
LEAST_RETRY_AFTER_S, MOST_RETRY_AFTER_S = 1.0, 30.0


class CircuitBreaker:
    """Closed, everything passes; open, everything is refused, until Triton answers a question of `health_check.py`.

    What opens it is that no connection can be made, or that Triton says nothing at all any more. An answer never does,
    whatever its status: one model's error says nothing about the server.
    """

    def __init__(self, *, on_open: Callable[[], None]) -> None:
        self.error: TritonUnavailableError | None = None  # why it is open
        self.num_failures = 0
        self.num_signs = 0  # of life: reads from any connection
        self.doubt = asyncio.Event()  # set by what gives reason to ask whether it lives
        self._since = 0.0
        self._on_open = on_open
        self.on_change: Callable[[], None] = lambda: None  # called after it was opened or closed

    def require_closed(self) -> None:
        """Raise why nothing passes, if so, with an estimate: what has been away for so long will be for as long again.

        Raises:
            TritonUnavailableError: it is open.
        """
        if self.error is None:
            return
        away_s = time.monotonic() - self._since
        raise TritonUnavailableError(
            self.error.detail,
            code=self.error.code,
            retry_after_s=min(max(away_s, LEAST_RETRY_AFTER_S), MOST_RETRY_AFTER_S),
        )

    def failed(self, error: TritonUnavailableError) -> None:
        """A connection could not be made."""
        self.num_failures += 1
        self.doubt.set()
        if self.num_failures >= MAX_FAILURES:
            self.open(error)

    def open(self, error: TritonUnavailableError) -> None:
        """Let nothing pass from now on."""
        if self.error is None:
            if self.num_signs:
                logger.warning("Triton is away: %s", error.detail)
            else:  # as while both start
                logger.info("Triton is not there yet: %s", error.detail)
            self._since = time.monotonic()
            self.error = error
            self._on_open()
            self.on_change()
        self.error = error

    def answered(self) -> None:
        """Triton has answered a request, so those failures were not its own. An open breaker is closed by `close`."""
        if self.error is None:
            self.num_failures = 0

    def close(self) -> None:
        """Let everything pass: Triton answers."""
        self.num_failures = 0
        if self.error is not None:
            logger.info("Triton answers, after %.1f s", time.monotonic() - self._since)
            self.error = None
            self.on_change()
