# SPDX-License-Identifier: Apache-2.0
"""An estimate of how long it takes until there is a Triton where there was none."""

import time
from collections.abc import Callable

# Until one start was seen: about what a Triton with its weights on the node's disk takes.
ASSUMED_S = 30.0
# While a start takes longer than the last one.
LEAST_S = 2.0


class ColdStart:
    """Measures the time from the first request for a Triton while none runs until one does."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._took_s = ASSUMED_S
        self._asked_first: float | None = None
        self._asked_last = 0.0

    def asked(self) -> None:
        """A request needs a Triton, and none runs."""
        now = self._clock()
        # A request from long ago was for another start, which went unseen.
        if self._asked_first is None or now - self._asked_last > 2 * self._took_s:
            self._asked_first = now
        self._asked_last = now

    def came(self) -> None:
        """One runs."""
        if self._asked_first is not None:
            self._took_s = self._clock() - self._asked_first
            self._asked_first = None

    @property
    def left_s(self) -> float:
        """In how many seconds one should run."""
        waited_s = 0.0 if self._asked_first is None else self._clock() - self._asked_first
        return max(LEAST_S, self._took_s - waited_s)
