# SPDX-License-Identifier: Apache-2.0
"""A request's slot: held until Triton has finished the request, which may be long after its response."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType


class Slot:
    """One or more slots of a model, taken together. Its request holds it as a context manager.

    If work continues after the request, the code that does it holds the slot too (`hold`, `release`): a connection on
    which Triton has not responded yet, for example. The slot is free when its last holder has released it.
    """

    __slots__ = ("_free", "_num_holders", "count", "is_measured", "share", "since")

    def __init__(self, count: int, *, since: float, free: Callable[[Slot], None], share: str | None = None) -> None:
        self.count = count
        self.since = since  # on the clock of its `Admission`
        self.share = share  # the caller whose share it counts against, if shares are limited
        self.is_measured = False  # whether the model completed the work while the slot was held
        self._num_holders = 1
        self._free = free

    def __enter__(self) -> Slot:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release(is_completed=kind is None)

    @property
    def is_taken(self) -> bool:
        """Whether it is still held."""
        return self._num_holders > 0

    def hold(self) -> None:
        """Add a holder."""
        self._num_holders += 1

    def hold_for(self, seconds: float) -> None:
        """Add a holder for this time."""
        if seconds > 0:
            self.hold()
            asyncio.get_running_loop().call_later(seconds, self.release)

    def release(self, *, is_completed: bool = False) -> None:
        """Remove a holder. `is_completed`: the model completed the work."""
        self.is_measured = self.is_measured or is_completed
        self._num_holders -= 1
        if self._num_holders == 0:
            self._free(self)


# The current request's slot. None: it has none yet, or needs none.
current_slot: ContextVar[Slot | None] = ContextVar("current_slot", default=None)
