# SPDX-License-Identifier: Apache-2.0
"""Whatever happens in whatever order, no more is in flight than may be, nobody is forgotten, and nothing is left."""

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fastapi_triton.admission.limiter import Admissions
from fastapi_triton.core.errors import FastAPITritonError
from fastapi_triton.core.slot import Slot
from support.slot_requests import Clock, request_slot, settled

MAX_IN_FLIGHT, MAX_WAITING, MAX_PER_CALLER = 3, 4, 5

OPERATIONS = st.one_of(
    st.tuples(
        st.just("ask"), st.sampled_from("abc"), st.integers(1, MAX_IN_FLIGHT), st.sampled_from([None, 1.0, 50.0])
    ),
    st.tuples(st.just("finish"), st.integers(0, 20)),
    st.tuples(st.just("cancel"), st.integers(0, 20)),
    st.tuples(st.just("pass time"), st.floats(0, 20)),
    st.just(("settle",)),
)


class World:
    """Some requests of some callers for one model."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.admissions = Admissions(
            MAX_IN_FLIGHT, max_waiting=MAX_WAITING, max_per_caller=MAX_PER_CALLER, clock=self.clock
        )
        self.admission = self.admissions.of("m")
        self.asking: list[asyncio.Task[Slot]] = []
        self.held: list[Slot] = []

    async def do(self, operation: tuple[Any, ...]) -> None:
        match operation:
            case ("ask", caller, count, timeout_s):
                deadline = None if timeout_s is None else self.clock.now + timeout_s
                self.asking.append(request_slot(self.admission, caller, count=count, deadline=deadline))
            case ("finish", index) if self.held:
                self.held.pop(index % len(self.held)).release(is_completed=True)
            case ("cancel", index) if self.asking:
                self.asking[index % len(self.asking)].cancel()
            case ("pass time", seconds):
                self.clock.now += seconds
            case ("settle",):
                await settled()
        self.collect()
        assert 0 <= self.admission.in_flight <= MAX_IN_FLIGHT
        assert 0 <= self.admission.waiting <= MAX_WAITING

    def collect(self) -> None:
        for task in [task for task in self.asking if task.done()]:
            self.asking.remove(task)
            if not task.cancelled() and not isinstance(task.exception(), FastAPITritonError):
                self.held.append(task.result())

    async def end(self) -> None:
        """Everybody who still waits gets a turn."""
        while self.asking or self.held:
            await settled()
            self.collect()
            assert self.held or not self.asking, "some wait, and nobody holds what they wait for"
            while self.held:
                self.held.pop().release()


@given(st.lists(OPERATIONS, max_size=60))
def test_no_order_of_events_breaks_the_bounds_or_leaves_anything(operations: list[tuple[Any, ...]]) -> None:
    async def live() -> None:
        world = World()
        for operation in operations:
            await world.do(operation)
        await world.end()
        await settled()
        assert (world.admission.in_flight, world.admission.waiting) == (0, 0)
        assert not world.admissions._shares._taken

    asyncio.run(live())
