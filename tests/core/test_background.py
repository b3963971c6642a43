# SPDX-License-Identifier: Apache-2.0
"""A failing background task is logged, retried and listed as failing. It ends with its app."""

import asyncio
import logging

import pytest

from fastapi_triton.core import background
from fastapi_triton.core.background import BackgroundTask, running_tasks


class Clock:
    """A clock that stops between changes of `now_s`."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def task(clock: Clock) -> BackgroundTask:
    return BackgroundTask("work", consequence="Nothing is done.", clock=clock)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "FIRST_BACKOFF_S", 0.0)


async def test_a_task_ends_with_its_block(task: BackgroundTask) -> None:
    is_running, has_ended = asyncio.Event(), asyncio.Event()

    async def step() -> float:
        is_running.set()
        try:
            await asyncio.Future()
        finally:
            has_ended.set()
        return 0.0

    async with task.repeating(step):
        await is_running.wait()
        assert task in running_tasks()
        assert not has_ended.is_set()
    assert has_ended.is_set()
    assert task not in running_tasks()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("error", [ValueError("why"), RecursionError(), MemoryError(), OSError(28, "No space left")])
async def test_a_task_continues_after_failures(task: BackgroundTask, error: Exception) -> None:
    errors = [error] * 3
    is_back = asyncio.Event()

    async def step() -> float:
        if errors:
            raise errors.pop()
        is_back.set()
        return 1000.0

    async with task.repeating(step):
        await is_back.wait()
        await asyncio.sleep(0)  # the step returns
        assert task.num_failures == 3
        assert task.failing_for_s == 0


async def test_a_task_ends_when_its_step_returns_none(task: BackgroundTask) -> None:
    async def step() -> None:
        return None

    await task.repeat(step)
    assert not task.is_failing


async def test_a_step_that_fails_during_cancellation_does_not_delay_the_end(task: BackgroundTask) -> None:
    is_running = asyncio.Event()

    async def step() -> float:
        is_running.set()
        try:
            await asyncio.Future()
        finally:
            raise OSError("while it was cancelled")
        return 0.0

    async with task.repeating(step):
        await is_running.wait()
    assert task.num_failures == 1


def test_the_backoff_grows_to_its_limit_with_jitter(task: BackgroundTask) -> None:
    pauses = [task.failed(OSError("why")) for _ in range(2000)]
    assert 0.25 <= pauses[0] <= 0.5
    assert 1.0 <= pauses[2] <= 2.0
    assert all(background.LONGEST_BACKOFF_S / 2 <= each <= background.LONGEST_BACKOFF_S for each in pauses[10:])
    assert len(set(pauses[10:])) > 1000
    task.succeeded()
    assert task.failed(OSError("why")) <= 0.5


def test_the_backoff_is_reset_only_after_the_task_worked_for_a_while(clock: Clock) -> None:
    task = BackgroundTask("work", consequence="Nothing is done.", steady_s=10, clock=clock)
    for _ in range(5):
        task.failed(OSError("why"))
        task.succeeded()
        clock.now_s += 9
    assert task.failed(OSError("why")) >= 8
    task.succeeded()
    clock.now_s += 10
    assert task.failed(OSError("why")) <= 0.5


def test_a_failure_is_logged_at_once_then_once_a_minute_and_so_is_the_recovery(
    task: BackgroundTask, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(121):
        task.failed(OSError(28, "No space left on device"))
        clock.now_s += 1
    assert [each.levelno for each in caplog.records] == [logging.ERROR] * 3
    assert "No space left on device" in caplog.records[0].getMessage()
    assert "Nothing is done." in caplog.records[0].getMessage()
    task.failed(OSError(5, "Input/output error"))
    assert len(caplog.records) == 4  # another cause is logged at once
    assert task.failing_for_s == 121
    task.succeeded()
    task.succeeded()
    assert [each.getMessage() for each in caplog.records[4:]] == ["work works again"]


def test_an_unexpected_error_is_logged_with_its_traceback(
    task: BackgroundTask, caplog: pytest.LogCaptureFixture
) -> None:
    task.failed(OSError("expected"))
    task.failed(ValueError("not expected"))
    assert [bool(each.exc_info) for each in caplog.records] == [False, True]


def test_a_failed_call_does_not_keep_the_other_calls_from_running(task: BackgroundTask) -> None:
    done: list[int] = []

    def fail() -> None:
        raise ValueError("why")

    task.attempt_all([fail, lambda: done.append(1), fail, lambda: done.append(2)])
    assert done == [1, 2]
    assert (task.is_failing, task.num_failures) == (True, 1)
    task.attempt_all([])
    assert not task.is_failing
