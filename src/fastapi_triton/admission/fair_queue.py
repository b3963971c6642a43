# SPDX-License-Identifier: Apache-2.0
"""The queue for a model's slots: one line for each caller, served round-robin."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from fastapi_triton.core.slot import Slot


@dataclass(frozen=True, slots=True)
class QueuePosition:
    """A request's position in its model's queue; 1 is next. There is no estimate before the model's first response."""

    position: int
    estimated_wait_s: float | None

    def as_json(self) -> dict[str, Any]:
        """As JSON, without the estimate if there is none."""
        if self.estimated_wait_s is None:
            return {"position": self.position}
        return {"position": self.position, "estimated_wait_s": round(self.estimated_wait_s, 1)}


class QueueTicket:
    """Shows a request's position in the queue while it waits; an argument of `Admission.slot`."""

    def __init__(self) -> None:
        self._look: Callable[[], QueuePosition] | None = None

    @property
    def position(self) -> QueuePosition | None:
        """The current position; None before the request waits, and when it has its slot."""
        return None if self._look is None else self._look()

    def enter(self, look: Callable[[], QueuePosition]) -> None:
        """The request begins to wait."""
        self._look = look

    def leave(self) -> None:
        """The request stops waiting."""
        self._look = None


@dataclass(eq=False, slots=True)
class Waiter:
    """A request that waits for `count` slots at once. The result of `turn` is its slot, or an error."""

    caller: str
    count: int
    deadline: float | None
    turn: asyncio.Future[Slot]
    share: str | None = None

    @property
    def has_slot(self) -> bool:
        return self.turn.done() and not self.turn.cancelled() and self.turn.exception() is None


class FairQueue:
    """A queue of at most `size` requests: first in, first out within a caller's line, and the lines in turn."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.num_waiting = 0
        self._lines: OrderedDict[str, deque[Waiter]] = OrderedDict()  # the next line to be served is first

    @property
    def is_full(self) -> bool:
        return self.num_waiting >= self.size

    @property
    def next(self) -> Waiter | None:
        """The next waiter."""
        return next(iter(self._lines.values()))[0] if self._lines else None

    def enter(self, waiter: Waiter) -> None:
        """Add a waiter to the end of its caller's line."""
        self._lines.setdefault(waiter.caller, deque()).append(waiter)
        self.num_waiting += 1

    def admit(self) -> Waiter:
        """Pop the next waiter, and move its caller's line to the back of the queue."""
        waiter = self._lines[next(iter(self._lines))][0]
        self._lines.move_to_end(waiter.caller)
        self.leave(waiter)
        return waiter

    def leave(self, waiter: Waiter) -> None:
        """Remove a waiter, if it is still in the queue."""
        line = self._lines.get(waiter.caller)
        if line is None or waiter not in line:
            return
        line.remove(waiter)
        self.num_waiting -= 1
        if not line:
            del self._lines[waiter.caller]

    def num_ahead(self, caller: str) -> int:
        """The number of requests that would be served before a new request of this caller."""
        own = len(self._lines.get(caller, ()))
        return own + sum(min(len(line), own + 1) for name, line in self._lines.items() if name != caller)

    def num_before(self, waiter: Waiter) -> int:
        """The number of requests that will be served before this one."""
        index = self._lines[waiter.caller].index(waiter)
        earlier = set(takewhile(lambda name: name != waiter.caller, self._lines))
        others = ((name, len(line)) for name, line in self._lines.items() if name != waiter.caller)
        return index + sum(min(length, index + (name in earlier)) for name, length in others)

    def giving_way_to(self, caller: str) -> Waiter | None:
        """The waiter that a new request of this caller displaces, if any: the newest of the caller with the most.

        That caller must have more waiters even when the new request is counted, or two callers could displace each
        other's requests without end.
        """
        if not self._lines:
            return None
        longest = max(self._lines.values(), key=len)
        return longest[-1] if len(longest) > len(self._lines.get(caller, ())) + 1 else None
