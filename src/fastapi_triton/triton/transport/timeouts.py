# SPDX-License-Identifier: Apache-2.0
"""The timeouts of all exchanges with one timer: a timer for each would be made and cancelled for each request."""

import asyncio
import time
from typing import Protocol

from fastapi_triton.core.background import BackgroundTask

_expiring = BackgroundTask(
    "Triton timeouts", consequence="Requests may wait for Triton longer than their timeout."
).list_always()


class CanExpire(Protocol):
    def expire(self) -> None:
        """The time is over."""
        ...


class Timeouts:
    """Calls `expire` of each exchange that was not removed in time. Used inside one event loop."""

    def __init__(self) -> None:
        self._due: dict[CanExpire, float] = {}  # on the clock of `time.monotonic`
        self._timer: asyncio.TimerHandle | None = None
        self._fires_at = 0.0
        self._is_closed = False

    def add(self, what: CanExpire, timeout_s: float) -> None:
        """Expire it after `timeout_s`."""
        self._is_closed = False
        self._due[what] = due = time.monotonic() + timeout_s
        if self._timer is None or due < self._fires_at:
            self._set(due)

    def remove(self, what: CanExpire) -> None:
        """It is complete. The timer stays for the next one."""
        self._due.pop(what, None)
        if self._is_closed:
            self._rest()

    def close(self) -> None:
        """No more are added for now; the rest may still expire. No timer stays for the next event loop."""
        self._is_closed = True
        self._rest()

    def _rest(self) -> None:
        if self._timer is not None and not self._due:
            self._timer.cancel()
            self._timer = None

    def _set(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._fires_at = due
        self._timer = asyncio.get_running_loop().call_later(max(0.0, due - time.monotonic()), self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = time.monotonic()
        late = [each for each, due in self._due.items() if due <= now]
        for what in late:
            del self._due[what]
        _expiring.attempt_all(what.expire for what in late)
        if self._due:
            self._set(min(self._due.values()))
