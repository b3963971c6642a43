# SPDX-License-Identifier: Apache-2.0
"""The order in which waiting requests get slots: callers take turns, and interactive requests pass batch requests."""

import asyncio

import pytest

from fastapi_triton.admission.limiter import Admission
from fastapi_triton.core.context import Caller
from fastapi_triton.core.slot import Slot
from support.slot_requests import Clock, rejection, request_slot, settled


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def order_of(slot: Slot, tasks: list[tuple[str, asyncio.Task[Slot]]]) -> list[str]:
    """The names of waiting requests in the order in which they get the only slot."""
    await settled()
    order = []
    while tasks:
        slot.release()
        await settled()
        ((name, task),) = ((name, task) for name, task in tasks if task.done())
        tasks.remove((name, task))
        order.append(name)
        slot = task.result()
    return order


async def test_callers_are_served_in_turn(clock: Clock) -> None:
    admission = Admission("m", 1, max_waiting=20, clock=clock)
    slot = await request_slot(admission, "greedy")
    tasks = [(name, request_slot(admission, name)) for name in ["greedy"] * 5 + ["b", "b", "c"]]
    assert await order_of(slot, tasks) == ["greedy", "b", "c", "greedy", "b", "greedy", "greedy", "greedy"]


async def test_interactive_requests_pass_batch_requests_which_get_every_fourth_turn(clock: Clock) -> None:
    admission = Admission("m", 1, max_waiting=20, clock=clock)
    slot = await request_slot(admission)
    callers = [Caller("jobs", priority="batch")] * 3 + [Caller("a"), Caller("b")] * 3
    tasks = [(caller.name, request_slot(admission, caller)) for caller in callers]
    assert await order_of(slot, tasks) == ["a", "b", "a", "jobs", "b", "a", "b", "jobs", "jobs"]


async def test_in_a_full_queue_a_batch_request_gives_way_if_its_caller_has_the_most(clock: Clock) -> None:
    admission = Admission("m", 1, max_waiting=3, clock=clock)
    slot = await request_slot(admission)
    batch = [request_slot(admission, Caller("a", priority="batch")) for _ in range(3)]
    await settled()
    interactive = request_slot(admission, "a")
    await settled()
    assert (await rejection(batch[2])).code == "overloaded"
    slot.release()
    (await interactive).release()
    for task in batch[:2]:
        (await task).release()
