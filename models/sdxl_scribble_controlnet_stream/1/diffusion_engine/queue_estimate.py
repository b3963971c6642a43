# SPDX-License-Identifier: Apache-2.0
"""Where a request waits in the engine's queue, and how long it will take. Imports no torch."""

import heapq
from collections.abc import Sequence

from diffusion_engine.request_state import BatchKey, QueuePosition, RequestState

# The weight of the newest step in the mean.
_WEIGHT = 0.1


class StepTimes:
    """The mean time of recent steps for each row, by size: from one step's end to the next, with all work between."""

    def __init__(self) -> None:
        self._seconds_per_row: dict[BatchKey, float] = {}
        self._last_end: float | None = None

    def add(self, key: BatchKey, num_rows: int, *, duration_s: float, now: float) -> None:
        """Count a step that has ended now."""
        elapsed_s = duration_s if self._last_end is None else now - self._last_end
        self._last_end = now
        mean = self._seconds_per_row.get(key, elapsed_s / num_rows)
        self._seconds_per_row[key] = mean + _WEIGHT * (elapsed_s / num_rows - mean)

    def pause(self) -> None:
        """No request runs or waits, so the time until the next step does not count."""
        self._last_end = None

    def seconds_per_row(self, key: BatchKey) -> float | None:
        """None before the first step of this size."""
        return self._seconds_per_row.get(key)

    @property
    def longest(self) -> float:
        """The seconds for a row of the slowest size; 0 before the first step."""
        return max(self._seconds_per_row.values(), default=0.0)


def positions(
    running: Sequence[RequestState],
    waiting: Sequence[RequestState],
    *,
    max_rows: int,
    seconds_per_row: float | None,
    num_sizes: int = 1,
) -> list[QueuePosition]:
    """The positions of the waiting requests of one size, which are in the order in which they will join.

    Plays the steps to come: each ends the requests without remaining steps, and others take their rows. `num_sizes`
    sizes take turns.
    """
    ends = [(state.remaining_steps, state.num_rows) for state in running]  # by the number of steps from now
    heapq.heapify(ends)
    num_rows = sum(state.num_rows for state in running)
    busiest = min(max_rows, num_rows + sum(state.num_rows for state in waiting))
    step_s = None if seconds_per_row is None else seconds_per_row * busiest * num_sizes
    found, start = [], 0
    for index, state in enumerate(waiting):
        while ends and num_rows + state.num_rows > max_rows:
            start, freed = heapq.heappop(ends)
            num_rows -= freed
        end = start + state.remaining_steps
        heapq.heappush(ends, (end, state.num_rows))
        num_rows += state.num_rows
        times = (None, None) if step_s is None else (start * step_s, end * step_s)
        found.append(QueuePosition(index + 1, *times))
    return found
