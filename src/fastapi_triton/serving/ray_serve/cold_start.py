# SPDX-License-Identifier: Apache-2.0
"""Estimates how long the first Triton of a cluster takes to start."""

import time
from collections.abc import Callable

# The estimate before the first start: about the time of a Triton whose weights are on the node's disk.
ASSUMED_S = 30.0
# The estimate while a start takes longer than the last one.
LEAST_S = 2.0


class ColdStart:
    """Measures the time from the first request without a running Triton until one runs."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._took_s = ASSUMED_S
        self._first_requested: float | None = None
        self._last_requested = 0.0

    def requested(self) -> None:
        """Record that a request needs a Triton, and none runs."""
        now = self._clock()
        # An old request belongs to an earlier start, which was not noticed.
        if self._first_requested is None or now - self._last_requested > 2 * self._took_s:
            self._first_requested = now
        self._last_requested = now

    def started(self) -> None:
        """Record that a Triton runs."""
        if self._first_requested is not None:
            self._took_s = self._clock() - self._first_requested
            self._first_requested = None

    @property
    def left_s(self) -> float:
        """The estimated seconds until a Triton runs."""
        waited_s = 0.0 if self._first_requested is None else self._clock() - self._first_requested
        return max(LEAST_S, self._took_s - waited_s)
