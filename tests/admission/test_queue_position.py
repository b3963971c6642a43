# SPDX-License-Identifier: Apache-2.0
"""The queue position of a waiting request is the number of requests that are served until its own."""

import asyncio
from collections.abc import Callable
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from fastapi_triton.admission.fair_queue import QueuePosition, QueueTicket, Waiter
from fastapi_triton.admission.limiter import Admission
from fastapi_triton.admission.priority_queue import MAX_PASSES, PriorityQueue
from fastapi_triton.core.context import Caller, Priority, current_caller
from fastapi_triton.core.slot import Slot
from support.slot_requests import Clock, request_slot, served, settled

PRIORITIES: list[Priority] = ["interactive", "batch"]
WAITERS = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(PRIORITIES)), max_size=30)


def entered(queue: PriorityQueue, loop: asyncio.AbstractEventLoop, caller: str, priority: Priority) -> Waiter:
    waiter = Waiter(caller, 1, None, loop.create_future(), priority=priority)
    queue.enter(waiter)
    return waiter


@given(waiters=WAITERS, num_served=st.integers(0, 10), late=st.sampled_from(PRIORITIES))
def test_positions_are_the_order_of_service(
    waiters: list[tuple[str, Priority]], num_served: int, late: Priority
) -> None:
    loop = asyncio.new_event_loop()
    queue = PriorityQueue(1000)
    waiting = [entered(queue, loop, *each) for each in waiters]
    for _ in range(min(num_served, len(waiters))):
        waiting.remove(queue.admit())
    num_ahead = queue.num_ahead(Caller("a", priority=late))
    newcomer = entered(queue, loop, "a", late)
    assert queue.num_before(newcomer) == num_ahead
    waiting.append(newcomer)
    expected = sorted(waiting, key=queue.num_before)
    assert sorted(map(queue.num_before, waiting)) == list(range(len(waiting)))
    assert [queue.admit() for _ in waiting] == expected
    loop.close()


@given(arrivals=st.lists(st.lists(st.sampled_from("IIIb"), min_size=2, max_size=4), min_size=10, max_size=40))
def test_a_batch_request_is_served_within_a_bounded_number_of_turns(arrivals: list[list[str]]) -> None:
    """Whatever arrives later: with `n` others of its priority before it, within `4 * (n + 1)` turns."""
    loop = asyncio.new_event_loop()
    queue = PriorityQueue(1000)
    bounds: dict[Waiter, int] = {}
    turn = 0
    for arriving in arrivals:
        for kind in arriving:
            waiter = entered(queue, loop, "a", "batch" if kind == "b" else "interactive")
            if kind == "b":
                num_before = len(bounds)
                bounds[waiter] = turn + (MAX_PASSES + 1) * (num_before + 1)
        if queue.num_waiting:
            turn += 1
            bounds.pop(queue.admit(), None)
            assert all(turn < bound for bound in bounds.values())  # for those that still wait
    loop.close()


async def test_a_ticket_follows_its_request_through_the_queue() -> None:
    clock = Clock()
    admission = Admission("m", 1, max_waiting=5, clock=clock)
    await served(admission, clock, 4.0)
    tickets = [QueueTicket() for _ in range(3)]

    async def wait(ticket: QueueTicket) -> Slot:
        current_caller.set(Caller("a"))
        return await admission.slot(ticket=ticket)

    slot = await request_slot(admission)
    waiting = [asyncio.create_task(wait(ticket)) for ticket in tickets]
    await settled()
    assert [ticket.position for ticket in tickets] == [
        QueuePosition(1, 4.0, 8.0),
        QueuePosition(2, 8.0, 12.0),
        QueuePosition(3, 12.0, 16.0),
    ]
    clock.now += 4.0
    slot.release(is_completed=True)
    await settled()
    assert tickets[0].position is None
    assert [ticket.position and ticket.position.position for ticket in tickets[1:]] == [1, 2]
    waiting[1].cancel()
    await settled()
    assert tickets[1].position is None
    assert tickets[2].position is not None
    assert tickets[2].position.position == 1
    (await waiting[0]).release()
    (await waiting[2]).release()
    assert tickets[2].position is None


def test_a_ticket_has_no_position_outside_the_queue() -> None:
    ticket = QueueTicket()
    assert ticket.position is None
    look: Callable[[], QueuePosition] = partial(QueuePosition, 7, None)
    ticket.enter(look)
    assert ticket.position is not None
    assert ticket.position.as_json() == {"position": 7}
    assert QueuePosition(1, 2.345, 9.0).as_json() == {
        "position": 1,
        "estimated_wait_s": 2.3,
        "estimated_total_s": 9.0,
    }
    ticket.leave()
    assert ticket.position is None
