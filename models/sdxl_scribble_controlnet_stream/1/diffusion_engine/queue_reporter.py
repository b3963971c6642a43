# SPDX-License-Identifier: Apache-2.0
"""Reports to waiting requests where they are in the queue. Imports no torch."""

import time
from collections.abc import Callable

from diffusion_engine.queue_estimate import StepTimes
from diffusion_engine.request_state import QueuePosition, RequestState
from diffusion_engine.step_scheduler import StepScheduler

# The shortest time between two reports, each of which may send an event to every waiting request.
INTERVAL_S = 1.0


class QueueReporter:
    """Knows all requests that wait, also those whose scribbles are being decoded.

    Args:
        send: called for each request whose position has changed.
    """

    def __init__(
        self,
        step_scheduler: StepScheduler,
        send: Callable[[RequestState, QueuePosition], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.step_times = StepTimes()
        self._step_scheduler = step_scheduler
        self._send = send
        self._clock = clock
        self._arriving: dict[RequestState, None] = {}  # in order of arrival, not in the step scheduler yet
        self._next_report = 0.0

    def arrived(self, state: RequestState) -> None:
        """A request was accepted. From any thread."""
        self._arriving[state] = None

    def left(self, state: RequestState) -> None:
        """A request was added to the step scheduler, or has failed before. From any thread."""
        self._arriving.pop(state, None)

    def position_of(self, state: RequestState) -> QueuePosition:
        """A request's position; 1 without a wait if it runs already. From any thread."""
        found = self._positions().get(state, QueuePosition(1, 0.0))
        state.queue_position = found.position
        return found

    def report(self) -> None:
        """Report changed positions, if none were reported for `INTERVAL_S`."""
        now = self._clock()
        if now < self._next_report:
            return
        self._next_report = now + INTERVAL_S
        for state, found in self._positions().items():
            if state.queue_position not in (None, found.position):  # None: the first event has not been sent
                state.queue_position = found.position
                self._send(state, found)

    def _positions(self) -> dict[RequestState, QueuePosition]:
        return self._step_scheduler.positions(self.step_times, arriving=list(self._arriving))
