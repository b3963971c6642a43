# SPDX-License-Identifier: Apache-2.0
"""The queue position of a waiting request is the number of requests that are served until its own."""

import asyncio
from collections.abc import Callable
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from fastapi_triton.admission.fair_queue import FairQueue, QueuePosition, QueueTicket, Waiter
from fastapi_triton.admission.limiter import Admission
from fastapi_triton.core.context import Caller, current_caller
from fastapi_triton.core.slot import Slot
from support.slot_requests import Clock, request_slot, served, settled


@given(callers=st.lists(st.sampled_from("abcd"), max_size=30), num_served=st.integers(0, 10), late=st.booleans())
def test_positions_are_the_order_of_service(callers: list[str], num_served: int, *, late: bool) -> None:
    loop = asyncio.new_event_loop()
    queue = FairQueue(1000)
    for caller in callers:
        queue.enter(Waiter(caller, 1, None, loop.create_future()))
    for _ in range(min(num_served, len(callers))):
        queue.admit()
    if late:
        queue.enter(Waiter("a", 1, None, loop.create_future()))
    waiting = [waiter for line in queue._lines.values() for waiter in line]
    expected = sorted(waiting, key=queue.num_before)
    assert sorted(map(queue.num_before, waiting)) == list(range(len(waiting)))
    assert [queue.admit() for _ in waiting] == expected
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
        QueuePosition(1, 4.0),
        QueuePosition(2, 8.0),
        QueuePosition(3, 12.0),
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
    assert QueuePosition(1, 2.345).as_json() == {"position": 1, "estimated_wait_s": 2.3}
    ticket.leave()
    assert ticket.position is None
