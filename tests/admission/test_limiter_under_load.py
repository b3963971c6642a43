# SPDX-License-Identifier: Apache-2.0
"""In any order of events, the limits hold, every waiting request gets its turn, and all slots are released."""

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
        st.just("request"), st.sampled_from("abc"), st.integers(1, MAX_IN_FLIGHT), st.sampled_from([None, 1.0, 50.0])
    ),
    st.tuples(st.just("finish"), st.integers(0, 20)),
    st.tuples(st.just("cancel"), st.integers(0, 20)),
    st.tuples(st.just("pass time"), st.floats(0, 20)),
    st.just(("settle",)),
)


class Requests:
    """Requests of several callers for one model."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.admissions = Admissions(
            MAX_IN_FLIGHT, max_waiting=MAX_WAITING, max_per_caller=MAX_PER_CALLER, clock=self.clock
        )
        self.admission = self.admissions.of("m")
        self.waiting_tasks: list[asyncio.Task[Slot]] = []
        self.held: list[Slot] = []

    async def do(self, operation: tuple[Any, ...]) -> None:
        match operation:
            case ("request", caller, count, timeout_s):
                deadline = None if timeout_s is None else self.clock.now + timeout_s
                self.waiting_tasks.append(request_slot(self.admission, caller, count=count, deadline=deadline))
            case ("finish", index) if self.held:
                self.held.pop(index % len(self.held)).release(is_completed=True)
            case ("cancel", index) if self.waiting_tasks:
                self.waiting_tasks[index % len(self.waiting_tasks)].cancel()
            case ("pass time", seconds):
                self.clock.now += seconds
            case ("settle",):
                await settled()
        self.collect()
        assert 0 <= self.admission.in_flight <= MAX_IN_FLIGHT
        assert 0 <= self.admission.waiting <= MAX_WAITING

    def collect(self) -> None:
        for task in [task for task in self.waiting_tasks if task.done()]:
            self.waiting_tasks.remove(task)
            if not task.cancelled() and not isinstance(task.exception(), FastAPITritonError):
                self.held.append(task.result())

    async def end(self) -> None:
        """Release slots until no request waits."""
        while self.waiting_tasks or self.held:
            await settled()
            self.collect()
            assert self.held or not self.waiting_tasks, "requests wait, but no slot is in use"
            while self.held:
                self.held.pop().release()


@given(st.lists(OPERATIONS, max_size=60))
def test_in_any_order_of_events_limits_hold_and_all_slots_are_released(operations: list[tuple[Any, ...]]) -> None:
    async def run() -> None:
        requests = Requests()
        for operation in operations:
            await requests.do(operation)
        await requests.end()
        await settled()
        assert (requests.admission.in_flight, requests.admission.waiting) == (0, 0)
        assert not requests.admissions._shares._taken

    asyncio.run(run())
