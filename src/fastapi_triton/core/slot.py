# SPDX-License-Identifier: Apache-2.0
"""A request's place in flight: taken until nobody works for it any more, which may be long after its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType


class Place:
    """So many places of a model, taken together. Its request holds it as a context manager.

    Whoever knows that work goes on without the request, as a connection on which Triton has not answered yet, holds it
    too (`hold`, `give_back`). It is free when the last of them has given it back.
    """

    __slots__ = ("_free", "_num_holders", "count", "is_measured", "share", "since")

    def __init__(self, count: int, *, since: float, free: Callable[[Place], None], share: str | None = None) -> None:
        self.count = count
        self.since = since  # on the clock of whoever gave it
        self.share = share  # the caller whose share it counts against, if there is such a bound
        self.is_measured = False  # whether the time that it was taken is the time that the work takes
        self._num_holders = 1
        self._free = free

    def __enter__(self) -> Place:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.give_back(is_answered=kind is None)

    @property
    def is_taken(self) -> bool:
        """Whether it is still held."""
        return self._num_holders > 0

    def hold(self) -> None:
        """One more needs it."""
        self._num_holders += 1

    def hold_for(self, seconds: float) -> None:
        """It is needed for so much longer."""
        if seconds > 0:
            self.hold()
            asyncio.get_running_loop().call_later(seconds, self.give_back)

    def give_back(self, *, is_answered: bool = False) -> None:
        """One less needs it. `is_answered`: the work came to its end."""
        self.is_measured = self.is_measured or is_answered
        self._num_holders -= 1
        if self._num_holders == 0:
            self._free(self)


# The place of the request that is served here; None: it has none yet, or needs none.
current_place: ContextVar[Place | None] = ContextVar("current_place", default=None)
