# SPDX-License-Identifier: Apache-2.0
"""Supervised background tasks: one that fails is logged, retried with backoff, and shown in `/health` and `/metrics`.

`running_tasks` lists the tasks of this process, of all its apps and servers.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Self

from fastapi_triton.core.backoff import Backoff

logger = logging.getLogger(__name__)

FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 30.0
# How often the same failure is logged again.
REMINDER_S = 60.0

# One run of a task. Returns the pause before the next run, in seconds; None ends the task.
Step = Callable[[], Awaitable[float | None]]


class BackgroundTask:
    """The state of one long-lived task: whether it works, and the pause before its next attempt.

    Args:
        name: its name in logs, in `/health/ready` and in the `task` label of the metrics.
        consequence: one sentence on the effect of its failure. Clients can read it in `/health/ready`.
        expected: exceptions that are logged without a traceback.
        longest_backoff_s: maximum seconds between two attempts.
        steady_s: seconds that it must have worked before the backoff is reset.
    """

    def __init__(
        self,
        name: str,
        *,
        consequence: str,
        expected: tuple[type[Exception], ...] = (OSError,),
        longest_backoff_s: float = LONGEST_BACKOFF_S,
        steady_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.consequence = consequence
        self.num_failures = 0
        self.is_failing = False
        self._expected = expected
        self._backoff = Backoff(FIRST_BACKOFF_S, longest_backoff_s)
        self._steady_s = steady_s
        self._clock = clock
        self._failing_since = 0.0
        self._working_since: float | None = None
        self._logged = ""
        self._logged_at = 0.0
        self._is_ending = False

    @property
    def failing_for_s(self) -> float:
        """Seconds since it began to fail; 0 while it works."""
        return self._clock() - self._failing_since if self.is_failing else 0.0

    def failed(self, error: Exception) -> float:
        """Record and log a failure. Returns the pause before the next attempt, in seconds."""
        now = self._clock()
        if self._working_since is not None and now - self._working_since >= self._steady_s:
            self._backoff.reset()
        if not self.is_failing:
            self._failing_since = now
        self.is_failing, self._working_since = True, None
        self.num_failures += 1
        backoff_s = self._backoff.next_s()
        self._log(error, now, backoff_s)
        return backoff_s

    def _log(self, error: Exception, now: float, backoff_s: float) -> None:
        text = " ".join(str(error).split())
        cause = text if text and isinstance(error, self._expected) else f"{type(error).__name__}: {text}".rstrip(": ")
        if cause == self._logged and now - self._logged_at < REMINDER_S:
            return
        is_new = cause != self._logged
        self._logged, self._logged_at = cause, now
        logger.error(
            "%s failed: %s. %s Next attempt in %.1f s; failures so far: %d.",
            self.name,
            cause.rstrip("."),
            self.consequence,
            backoff_s,
            self.num_failures,
            exc_info=error if is_new and not isinstance(error, self._expected) else None,
        )

    def succeeded(self) -> None:
        """Record that it works, and log its recovery after a failure."""
        if self._working_since is None:
            self._working_since = self._clock()
        if self.is_failing:
            self.is_failing, self._logged = False, ""
            logger.info("%s works again", self.name)

    @contextmanager
    def attempt(self) -> Generator[None, None, None]:
        """Run the block as one step of the task. Failures are recorded, not raised. For timers and callbacks."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  # supervised: logged, counted and shown
            self.failed(error)
        else:
            self.succeeded()

    def attempt_all(self, calls: Iterable[Callable[[], object]]) -> None:
        """Run all calls as one step, even if one of them fails."""
        with self.attempt():
            errors: list[Exception] = []
            for call in calls:
                try:
                    call()
                except Exception as error:  # noqa: BLE001  # raised below
                    errors.append(error)
            if errors:
                raise errors[0]

    def list_always(self) -> Self:
        """Add it to the `running_tasks` until the process ends. For timers."""
        _running.append(self)
        return self

    @contextmanager
    def listed(self) -> Generator[None, None, None]:
        """Add it to the `running_tasks` for the duration of the block."""
        _running.append(self)
        try:
            yield
        finally:
            _running.remove(self)

    async def repeat(self, step: Step, *, until: asyncio.Event | None = None) -> None:
        """Run `step`, also after failures, until it returns None or `until` is set. A running step is awaited."""
        until = until or asyncio.Event()
        while not until.is_set():
            try:
                pause_s = await step()
            except Exception as error:  # noqa: BLE001  # supervised: logged, counted and shown
                pause_s = self.failed(error)
            else:
                self.succeeded()
            if pause_s is None or self._is_ending:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await until.wait()

    @asynccontextmanager
    async def repeating(self, step: Step) -> AsyncGenerator[None, None]:
        """Run `repeat` as an asyncio task for the duration of the block."""
        self._is_ending = False
        with self.listed():
            task = asyncio.create_task(self.repeat(step), name=self.name)
            try:
                yield
            finally:
                self._is_ending = True  # a step that fails during its cancellation is not retried
                task.cancel()
                await asyncio.wait([task])


_running: list[BackgroundTask] = []


def running_tasks() -> list[BackgroundTask]:
    """The background tasks of this process."""
    return list(dict.fromkeys(_running))
