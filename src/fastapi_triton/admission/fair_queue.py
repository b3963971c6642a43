# SPDX-License-Identifier: Apache-2.0
"""Requests of one priority that wait for a model's slots: one line for each caller, served round-robin."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import takewhile
from typing import Any

from fastapi_triton.core.context import Priority
from fastapi_triton.core.slot import Slot


@dataclass(frozen=True, slots=True)
class QueuePosition:
    """A request's position in a queue; 1 is next. There are no estimates before the model's first response.

    `estimated_wait_s` is the time until its turn, `estimated_total_s` until its response.
    """

    position: int
    estimated_wait_s: float | None = None
    estimated_total_s: float | None = None

    def as_json(self) -> dict[str, Any]:
        """As JSON, without unknown estimates."""
        known = {name: value for name, value in asdict(self).items() if value is not None}
        return {name: round(value, 1) if isinstance(value, float) else value for name, value in known.items()}


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
    priority: Priority = "interactive"

    @property
    def has_slot(self) -> bool:
        return self.turn.done() and not self.turn.cancelled() and self.turn.exception() is None


class FairQueue:
    """First in, first out within a caller's line, and the lines in turn."""

    def __init__(self) -> None:
        self.num_waiting = 0
        self._lines: OrderedDict[str, deque[Waiter]] = OrderedDict()  # the next line to be served is first

    @property
    def next(self) -> Waiter | None:
        """The next waiter."""
        return next(iter(self._lines.values()))[0] if self._lines else None

    @property
    def longest_line(self) -> Sequence[Waiter]:
        """The waiters of the caller with the most."""
        return max(self._lines.values(), key=len, default=())

    def num_of(self, caller: str) -> int:
        """The number of a caller's waiters."""
        return len(self._lines.get(caller, ()))

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
        own = self.num_of(caller)
        return own + sum(min(len(line), own + 1) for name, line in self._lines.items() if name != caller)

    def num_before(self, waiter: Waiter) -> int:
        """The number of requests that will be served before this one."""
        index = self._lines[waiter.caller].index(waiter)
        earlier = set(takewhile(lambda name: name != waiter.caller, self._lines))
        others = ((name, len(line)) for name, line in self._lines.items() if name != waiter.caller)
        return index + sum(min(length, index + (name in earlier)) for name, length in others)
