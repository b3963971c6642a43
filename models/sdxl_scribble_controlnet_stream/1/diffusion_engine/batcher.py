# SPDX-License-Identifier: Apache-2.0
"""Who shares the next denoise step: admits, drops and retires requests between steps. No torch: tested in milliseconds.

Rows are the currency: a guided request brings two, another one. All rows of a step have one size, and sizes take turns.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from enum import StrEnum

from diffusion_engine.generation import BatchKey, Generation, Status
from diffusion_engine.request import RequestError

Drop = Callable[[Generation, RequestError], None]


class Policy(StrEnum):
    """Who goes first when not all fit."""

    FIRST_COME = "first_come"
    # Lowers the mean; a long request may wait for long while short ones keep coming.
    SHORTEST_REMAINING = "shortest_remaining"


class Batcher:
    """The requests that the engine holds. Used by the engine's thread alone.

    Args:
        max_rows: how many rows a step of this size may have; one request is always let through.
        drop: told of every request that was cancelled or is late, once, when it leaves.
    """

    def __init__(
        self,
        *,
        max_rows: Callable[[BatchKey], int],
        drop: Drop,
        policy: Policy = Policy.FIRST_COME,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_rows = max_rows
        self._drop = drop
        self.policy = policy
        self._clock = clock
        # By size, in order of arrival; the sizes stand in the order of their turns.
        self._groups: dict[BatchKey, list[Generation]] = {}
        self._turns: deque[BatchKey] = deque()

    def admit(self, generation: Generation) -> None:
        """Take a request in; it waits until a step has rows for it."""
        if generation.key not in self._groups:
            self._groups[generation.key] = []
            self._turns.append(generation.key)
        self._groups[generation.key].append(generation)

    def next_rows(self) -> list[Generation]:
        """The requests of the next step, all of one size; empty when there is nothing to do.

        None of them is cancelled or late. Those that start now are marked as running.
        """
        self._drop_interrupted()
        if not self._turns:
            return []
        key = self._turns[0]
        self._turns.rotate(-1)
        chosen = self._choose(self._groups[key], self._max_rows(key))
        for generation in chosen:
            generation.status = Status.RUNNING
        return chosen

    def retire(self, generation: Generation) -> None:
        """A request leaves: it is done, failed, or was dropped."""
        group = self._groups[generation.key]
        group.remove(generation)
        if not group:
            del self._groups[generation.key]
            self._turns.remove(generation.key)

    def __iter__(self) -> Iterator[Generation]:
        return (generation for group in self._groups.values() for generation in group)

    def __len__(self) -> int:
        return sum(len(group) for group in self._groups.values())

    def _choose(self, group: list[Generation], max_rows: int) -> list[Generation]:
        chosen: list[Generation] = []
        num_rows = 0
        for generation in self._ordered(group):
            if chosen and num_rows + generation.num_rows > max_rows:
                if self.policy is Policy.FIRST_COME and generation.status is Status.WAITING:
                    break  # nobody overtakes the one who waits longest
                continue
            chosen.append(generation)
            num_rows += generation.num_rows
        return chosen

    def _ordered(self, group: list[Generation]) -> list[Generation]:
        if self.policy is Policy.SHORTEST_REMAINING:
            return sorted(group, key=lambda each: each.remaining_steps * each.num_rows)
        return sorted(group, key=lambda each: each.status is Status.WAITING)  # the running first; sorting is stable

    def _drop_interrupted(self) -> None:
        now = self._clock()
        for generation in list(self):
            error = generation.interruption(now)
            if error is not None:
                self.retire(generation)
                self._drop(generation, error)
