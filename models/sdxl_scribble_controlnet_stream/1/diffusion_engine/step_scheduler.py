# SPDX-License-Identifier: Apache-2.0
"""Chooses the requests that share the next step. Requests join and leave between steps. Imports no torch.

A request with guidance has two rows, others one. All rows of a step have the same size, and sizes take turns.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum

from diffusion_engine.errors import RequestError
from diffusion_engine.queue_estimate import StepTimes, positions
from diffusion_engine.request_group import RequestGroup
from diffusion_engine.request_state import BatchKey, QueuePosition, RequestState, Status
from diffusion_engine.step_room import StepRoom

Drop = Callable[[RequestState, RequestError], None]


class Policy(StrEnum):
    """The order of requests when not all fit in a step."""

    # Of those that wait, interactive requests pass batch requests.
    FIRST_COME = "first_come"
    # Lowers the mean latency, but a long request may wait as long as short ones keep arriving.
    SHORTEST_REMAINING = "shortest_remaining"


class StepScheduler:
    """The requests that wait or run. For the engine's thread only.

    Args:
        max_rows: the row limit of a step of this size. A single request is always scheduled.
        drop: called once for each request that was cancelled or is past its deadline.
        max_lora_bytes: the memory for the adapters of a step.
    """

    def __init__(
        self,
        *,
        max_rows: Callable[[BatchKey], int],
        drop: Drop,
        max_lora_bytes: float = math.inf,
        policy: Policy = Policy.FIRST_COME,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_rows = max_rows
        self._drop = drop
        self._max_lora_bytes = max_lora_bytes
        self.policy = policy
        self._clock = clock
        # By size. `_turns` holds the sizes, the next one first.
        self._groups: dict[BatchKey, RequestGroup] = {}
        self._turns: deque[BatchKey] = deque()

    def add_request(self, state: RequestState) -> None:
        """Add a request. It waits until a step has rows for it."""
        if state.key not in self._groups:
            self._groups[state.key] = RequestGroup()
            self._turns.append(state.key)
        self._groups[state.key].add(state)

    def schedule(self) -> list[RequestState]:
        """The requests of the next step, all of one size; empty if none wait or run.

        None is cancelled or past its deadline. Their status becomes RUNNING.
        """
        self._drop_interrupted()
        if not self._turns:
            return []
        key = self._turns[0]
        self._turns.rotate(-1)
        return self._choose(self._groups[key], self._max_rows(key))

    def remove_request(self, state: RequestState) -> None:
        """Remove a request that has finished, failed, or was dropped."""
        group = self._groups[state.key]
        group.remove(state)
        if not len(group):
            del self._groups[state.key]
            self._turns.remove(state.key)

    def __iter__(self) -> Iterator[RequestState]:
        return (state for group in self._groups.values() for state in group)

    def __len__(self) -> int:
        return sum(len(group) for group in self._groups.values())

    def positions(self, times: StepTimes, arriving: Iterable[RequestState] = ()) -> dict[RequestState, QueuePosition]:
        """The positions of all waiting requests, and of those that are not added yet. From any thread."""
        groups = {key: group.copy() for key, group in dict(self._groups).items()}  # copied, for other threads
        known = {state for group in groups.values() for state in group}
        for state in arriving:
            if state not in known:
                groups.setdefault(state.key, RequestGroup()).add(state)
        found: dict[RequestState, QueuePosition] = {}
        for key, group in groups.items():
            waiting = self._by_policy(group.waiting)
            places = positions(
                group.running,
                waiting,
                max_rows=self._max_rows(key),
                seconds_per_row=times.seconds_per_row(key),
                num_sizes=len(groups),
            )
            found |= zip(waiting, places, strict=True)
        return found

    def _choose(self, group: RequestGroup, max_rows: int) -> list[RequestState]:
        room = StepRoom(max_rows=max_rows, max_lora_bytes=self._max_lora_bytes)
        overtakes = self.policy is Policy.SHORTEST_REMAINING
        for state in self._by_policy([*group]) if overtakes else group.running:
            if room.take(state) and state.status is Status.WAITING:
                group.join(state)
        # No request overtakes the next one, however few rows it needs.
        while (next_one := group.next) is not None and room.take(next_one):
            group.join(next_one)
        return room.taken

    def _by_policy(self, states: list[RequestState]) -> list[RequestState]:
        if self.policy is Policy.SHORTEST_REMAINING:
            return sorted(states, key=lambda each: each.remaining_steps * each.num_rows)
        return states

    def _drop_interrupted(self) -> None:
        now = self._clock()
        for state in list(self):
            error = state.interruption(now)
            if error is not None:
                self.remove_request(state)
                self._drop(state, error)
