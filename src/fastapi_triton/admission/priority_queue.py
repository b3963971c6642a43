# SPDX-License-Identifier: Apache-2.0
"""The queue for a model's slots: interactive requests pass batch requests, which wait a bounded number of turns."""

from fastapi_triton.admission.fair_queue import FairQueue, Waiter
from fastapi_triton.core.context import Caller, Priority

# The most interactive requests that pass a waiting batch request in a row. The engine's queue has the same rule.
MAX_PASSES = 3


class PriorityQueue:
    """A queue of at most `size` requests, with a fair queue for each priority.

    While requests of both priorities wait, every fourth turn is that of a batch request. So a batch request behind `n`
    others is served within `4 * (n + 1)` turns. Without interactive requests, batch requests have every turn.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._interactive, self._batch = FairQueue(), FairQueue()
        self._num_passes = 0  # interactive requests that were served while a batch request waited, since the last one

    @property
    def num_waiting(self) -> int:
        return self._interactive.num_waiting + self._batch.num_waiting

    @property
    def is_full(self) -> bool:
        return self.num_waiting >= self.size

    @property
    def next(self) -> Waiter | None:
        """The next waiter."""
        return self._next_queue.next

    def enter(self, waiter: Waiter) -> None:
        """Add a waiter behind those of its caller and priority."""
        self._of(waiter.priority).enter(waiter)

    def admit(self) -> Waiter:
        """Pop the next waiter."""
        waiter = self._next_queue.admit()
        passes = waiter.priority == "interactive" and self._batch.num_waiting
        self._num_passes = self._num_passes + 1 if passes else 0
        return waiter

    def leave(self, waiter: Waiter) -> None:
        """Remove a waiter, if it is still in the queue."""
        self._of(waiter.priority).leave(waiter)
        if not self._batch.num_waiting:
            self._num_passes = 0

    def num_ahead(self, caller: Caller) -> int:
        """The number of requests that would be served before a new request of this caller."""
        return self._with_others(self._of(caller.priority).num_ahead(caller.name), caller.priority)

    def num_before(self, waiter: Waiter) -> int:
        """The number of requests that will be served before this one."""
        return self._with_others(self._of(waiter.priority).num_before(waiter), waiter.priority)

    def giving_way_to(self, caller: Caller) -> Waiter | None:
        """The waiter that a new request of this caller displaces, if any: the newest of the caller with the most.

        That caller must have more waiters even when the new request is counted, or two callers could displace each
        other's requests without end.
        """
        longest = max(self._batch.longest_line, self._interactive.longest_line, key=len)
        return longest[-1] if len(longest) > self._of(caller.priority).num_of(caller.name) + 1 else None

    @property
    def _next_queue(self) -> FairQueue:
        is_batch = self._batch.num_waiting and (self._num_passes >= MAX_PASSES or not self._interactive.num_waiting)
        return self._batch if is_batch else self._interactive

    def _of(self, priority: Priority) -> FairQueue:
        return self._batch if priority == "batch" else self._interactive

    def _with_others(self, num_before: int, priority: Priority) -> int:
        """The number of requests before one that has this number of its own priority before it."""
        if priority == "batch":
            passes = MAX_PASSES * (num_before + 1) - self._num_passes
            return num_before + min(self._interactive.num_waiting, passes)
        return num_before + min(self._batch.num_waiting, (num_before + self._num_passes) // MAX_PASSES)
