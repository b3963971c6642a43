# SPDX-License-Identifier: Apache-2.0
"""Requests for slots, each in a task with its own caller and deadline, as in a server; and a manual clock."""

import asyncio

import pytest
from starlette.types import Receive

from fastapi_triton.admission.limiter import Admission
from fastapi_triton.core.context import Caller, current_caller, current_deadline
from fastapi_triton.core.errors import OverloadedError
from fastapi_triton.core.slot import Slot

# An endpoint without a stream model.
PLAIN = "/plain"


class Clock:
    """A clock that the test advances."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def request_slot(
    admission: Admission,
    caller: str | Caller = "a",
    *,
    count: int = 1,
    deadline: float | None = None,
    receive: Receive | None = None,
) -> asyncio.Task[Slot]:
    async def one() -> Slot:
        current_caller.set(caller if isinstance(caller, Caller) else Caller(caller))
        current_deadline.set(deadline)
        return await admission.slot(count, receive=receive)

    return asyncio.create_task(one())


async def settled() -> None:
    """Let every task run until it waits."""
    for _ in range(5):
        await asyncio.sleep(0)


async def served(admission: Admission, clock: Clock, seconds: float) -> None:
    """One request of this duration."""
    with await request_slot(admission):
        clock.now += seconds


async def rejection(task: asyncio.Task[Slot], kind: type[Exception] = OverloadedError) -> OverloadedError:
    """The error of a request that is rejected."""
    with pytest.raises(kind) as caught:
        await task
    return caught.value  # type: ignore[return-value]
