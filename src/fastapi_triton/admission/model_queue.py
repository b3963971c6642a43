# SPDX-License-Identifier: Apache-2.0
"""The requests that have a slot, but still wait in the model's own queue, as its events report."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fastapi_triton.admission.service_time import MovingAverage

_WINDOW = 16


class ModelQueue:
    """Counts these requests, and measures how long they wait. Models without such events have an empty one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.num_waiting = 0
        self._wait_s = MovingAverage(_WINDOW)
        self._clock = clock

    @property
    def wait_s(self) -> float:
        """The mean wait in the model's queue; 0 before the first."""
        return self._wait_s.value or 0.0

    @contextmanager
    def followed(self) -> Iterator["Wait"]:
        """Follow one request. It no longer waits at the end of the block."""
        wait = Wait(self)
        try:
            yield wait
        finally:
            wait.end()

    def enter(self) -> float:
        """A request waits. Returns the time."""
        self.num_waiting += 1
        return self._clock()

    def leave(self, since: float, *, has_begun: bool) -> None:
        """A request no longer waits, because the model has begun it, or because it ended."""
        self.num_waiting -= 1
        if has_begun:
            self._wait_s.add(self._clock() - since)


class Wait:
    """The wait of one request in the model's queue."""

    def __init__(self, queue: ModelQueue) -> None:
        self._queue = queue
        self._since: float | None = None

    def begin(self) -> None:
        """The model has reported a position in its queue. It may do so several times."""
        if self._since is None:
            self._since = self._queue.enter()

    def end(self, *, has_begun: bool = False) -> None:
        """The wait is over. Does nothing if there was none."""
        if self._since is not None:
            self._queue.leave(self._since, has_begun=has_begun)
            self._since = None
