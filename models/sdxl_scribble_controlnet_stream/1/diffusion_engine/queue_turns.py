# SPDX-License-Identifier: Apache-2.0
"""The order in which waiting requests join: interactive ones before batch ones, which wait a bounded number of turns.

While both kinds wait, at most three interactive requests join between two batch requests. So a batch request behind `n`
others joins within `4 * (n + 1)` turns. Imports no torch.
"""

from collections import deque
from collections.abc import Iterable, Iterator

from diffusion_engine.request_state import RequestState

# The most interactive requests that pass a waiting batch request. The frontend's queue has the same rule.
MAX_PASSES = 3


class QueueTurns:
    """The turns of the requests of one size."""

    def __init__(self) -> None:
        self._num_passes = 0  # since the last batch request, or since one waits

    def in_order(self, waiting: Iterable[RequestState]) -> Iterator[RequestState]:
        """Waiting requests, which are in order of arrival, in the order in which they will join."""
        interactive: deque[RequestState] = deque()
        batch: deque[RequestState] = deque()
        for state in waiting:
            (batch if state.request.is_batch else interactive).append(state)
        num_passes = self._num_passes
        while interactive or batch:
            is_batch = bool(batch) and (num_passes >= MAX_PASSES or not interactive)
            num_passes = 0 if is_batch or not batch else num_passes + 1
            yield (batch if is_batch else interactive).popleft()

    def joined(self, state: RequestState, *, passes_batch: bool) -> None:
        """Count a request that joins. `passes_batch`: a batch request still waits."""
        self._num_passes = self._num_passes + 1 if passes_batch and not state.request.is_batch else 0
