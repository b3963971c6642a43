# SPDX-License-Identifier: Apache-2.0
"""The requests of one size: those that run, and those that wait for rows, with their turns. Imports no torch.

While both kinds wait, at most three interactive requests join between two batch requests. So a batch request behind `n`
others joins within `4 * (n + 1)` turns.
"""

from collections.abc import Iterator

from diffusion_engine.request_state import RequestState, Status

# The most interactive requests that pass a waiting batch request. The frontend's queue has the same rule.
MAX_PASSES = 3


class RequestGroup:
    """For the engine's thread; other threads may take a `copy`."""

    def __init__(self) -> None:
        self.running: list[RequestState] = []  # in the order in which they joined
        self._interactive: list[RequestState] = []
        self._batch: list[RequestState] = []
        self._num_passes = 0  # interactive requests that joined while a batch request waited, since the last one

    def __iter__(self) -> Iterator[RequestState]:
        return iter([*self.running, *self._interactive, *self._batch])

    def __len__(self) -> int:
        return len(self.running) + len(self._interactive) + len(self._batch)

    def copy(self) -> "RequestGroup":
        """The same requests. Copying a list is atomic, so that any thread may do it."""
        group = RequestGroup()
        group.running, group._num_passes = list(self.running), self._num_passes
        group._interactive, group._batch = list(self._interactive), list(self._batch)
        return group

    @property
    def waiting(self) -> list[RequestState]:
        """The waiting requests, in the order in which they will join if no others arrive."""
        rest, order = self.copy(), []
        while (state := rest.next) is not None:
            rest._count(state)
            order.append(state)
        return order

    @property
    def next(self) -> RequestState | None:
        """The waiting request that joins next."""
        if self._batch and (self._num_passes >= MAX_PASSES or not self._interactive):
            return self._batch[0]
        return self._interactive[0] if self._interactive else None

    def add(self, state: RequestState) -> None:
        """Add a request, which waits."""
        (self._batch if state.request.is_batch else self._interactive).append(state)

    def join(self, state: RequestState) -> None:
        """A waiting request joins those that run."""
        self._count(state)
        state.status = Status.RUNNING
        self.running.append(state)

    def remove(self, state: RequestState) -> None:
        """Remove a request. Raises `ValueError` if it is not here."""
        next((part for part in (self.running, self._interactive) if state in part), self._batch).remove(state)

    def _count(self, state: RequestState) -> None:
        """Take a waiting request out, and count its turn."""
        (self._batch if state.request.is_batch else self._interactive).remove(state)
        self._num_passes = self._num_passes + 1 if self._batch and not state.request.is_batch else 0
