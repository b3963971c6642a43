# SPDX-License-Identifier: Apache-2.0
"""How long it takes until there is a Triton where there was none: what callers are told who cannot wait for it."""

import time
from collections.abc import Callable

# Until one start was seen: about what a Triton with its weights on the node's disk takes.
ASSUMED_S = 30.0
# Where it takes longer than it did before, nobody knows for how much longer.
LEAST_S = 2.0


class ColdStart:
    """Learns from when somebody asks for a Triton and none is there, until one is."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._took_s = ASSUMED_S
        self._asked_first: float | None = None
        self._asked_last = 0.0

    def asked(self) -> None:
        """Somebody asks for a Triton, and none is there."""
        now = self._clock()
        # Who asked long ago, and went away, was asking for another one that came and went unseen.
        if self._asked_first is None or now - self._asked_last > 2 * self._took_s:
            self._asked_first = now
        self._asked_last = now

    def came(self) -> None:
        """One is there."""
        if self._asked_first is not None:
            self._took_s = self._clock() - self._asked_first
            self._asked_first = None

    @property
    def left_s(self) -> float:
        """When one should be there."""
        waited_s = 0.0 if self._asked_first is None else self._clock() - self._asked_first
        return max(LEAST_S, self._took_s - waited_s)
