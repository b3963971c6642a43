# SPDX-License-Identifier: Apache-2.0
"""Requests for slots: which are admitted, which wait, and which are rejected with which error."""

import asyncio
import re
import time
from contextvars import copy_context

import pytest
from starlette.types import Message

from fastapi_triton.admission.limiter import DEFAULT_RETRY_AFTER_S, Admission, Admissions, Shares
from fastapi_triton.core.context import Caller, current_caller
from fastapi_triton.core.errors import (
    ClientDisconnectedError,
    DeadlineExceededError,
    OverloadedError,
    TooManyRequestsError,
)
from fastapi_triton.core.request_record import RequestRecord, current_record
from support.slot_requests import Clock, rejection, request_slot, served, settled


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_request_with_a_free_slot_does_not_wait() -> None:
    """No event loop runs here, so this needs neither a task nor a future."""
    admission = Admission("m", 1, max_waiting=1)
    with pytest.raises(StopIteration) as done:
        copy_context().run(admission.slot().send, None)
    with done.value.value:
        assert admission.in_flight == 1
    assert admission.in_flight == 0


async def test_a_request_without_a_free_slot_waits_for_the_first_released_one(clock: Clock) -> None:
    admission = Admission("m", 2, max_waiting=5, clock=clock)
    first, second = await request_slot(admission), await request_slot(admission)
    third, fourth = request_slot(admission), request_slot(admission)
    await settled()
    assert (admission.in_flight, admission.waiting, third.done()) == (2, 2, False)
    second.release()
    await settled()
    assert (third.done(), fourth.done()) == (True, False)
    first.release()
    (await third).release()
    (await fourth).release()
    assert (admission.in_flight, admission.waiting) == (0, 0)


async def test_a_full_queue_rejects_with_the_estimated_time_of_the_queue(clock: Clock) -> None:
    admission = Admission("m", 1, max_waiting=2, clock=clock)
    for _ in range(3):
        await served(admission, clock, 4.0)
    await request_slot(admission)
    for _ in range(2):
        request_slot(admission)
    await settled()
    error = await rejection(request_slot(admission))
    assert (error.status, error.code) == (503, "overloaded")
    assert error.retry_after_s == pytest.approx(12.0)  # for the two that wait, and for this one
    assert admission.refused == {"overloaded": 1}


async def test_before_the_first_measurement_retry_after_is_the_documented_default() -> None:
    admission = Admission("m", 1)
    with await request_slot(admission):
        assert (await rejection(request_slot(admission))).retry_after_s == DEFAULT_RETRY_AFTER_S


async def test_the_interval_between_released_slots_is_measured(clock: Clock) -> None:
    """Four requests in flight, of which the model runs one at a time: a slot is released every second."""
    admission = Admission("m", 4, max_waiting=100, clock=clock)
    running = [await request_slot(admission) for _ in range(4)]
    waiting = [request_slot(admission) for _ in range(40)]
    await settled()
    for _ in range(40):
        clock.now += 1.0
        with running.pop(0):
            pass
        running.append(await waiting.pop(0))
    assert admission.times.service_s == pytest.approx(4.0, rel=0.2)
    assert admission.times.interval_s == pytest.approx(1.0)


async def test_a_caller_with_fewer_requests_displaces_the_newest_of_the_caller_with_most(clock: Clock) -> None:
    admission = Admission("m", 1, max_waiting=3, clock=clock)
    slot = await request_slot(admission)
    greedy = [request_slot(admission, "greedy") for _ in range(3)]
    await settled()
    newcomer = request_slot(admission, "b")
    error = await rejection(greedy[2])
    assert (error.status, error.code, error.retry_after_s) == (503, "overloaded", DEFAULT_RETRY_AFTER_S)
    assert await rejection(request_slot(admission, "greedy"))
    assert await rejection(request_slot(admission, "b"))  # it would have as many as the other caller
    slot.release()
    for turn in (greedy[0], newcomer, greedy[1]):
        (await turn).release()


async def test_the_limit_per_caller_counts_running_and_waiting_requests_of_all_models() -> None:
    admissions = Admissions(2, max_waiting=5, max_per_caller=3)
    one, other = admissions.of("one"), admissions.of("other")
    slots = [await request_slot(one), await request_slot(one)]
    waiting = request_slot(one)
    await settled()
    for admission in (one, other):
        error = await rejection(request_slot(admission), TooManyRequestsError)
        assert (error.status, error.code, error.retry_after_s) == (429, "too_many_requests", DEFAULT_RETRY_AFTER_S)
    (await request_slot(other, "b")).release()
    waiting.cancel()
    await settled()
    (await request_slot(other)).release()
    for slot in slots:
        slot.release()
    error = await rejection(request_slot(other, count=4), TooManyRequestsError)
    assert error.retry_after_s is None  # it can never be admitted


async def test_the_limit_of_a_key_overrides_the_default() -> None:
    admission = Admission("m", 9, shares=Shares(5))
    with await request_slot(admission, Caller("key:small", max_in_flight=1)):
        await rejection(request_slot(admission, Caller("key:small", max_in_flight=1)), TooManyRequestsError)
        with await request_slot(admission, Caller("key:other", max_in_flight=1)):
            pass
    with await request_slot(admission, Caller("key:small", max_in_flight=1)):
        assert admission.in_flight == 1


async def test_a_spare_slot_is_a_free_one_for_which_no_request_waits() -> None:
    admission = Admission("m", 2, max_waiting=5)
    own, spare = await request_slot(admission), admission.spare_slot()
    assert spare is not None
    assert (admission.in_flight, admission.spare_slot()) == (2, None)
    waiting = request_slot(admission, count=2)
    await settled()
    spare.release()
    assert (admission.in_flight, admission.spare_slot()) == (1, None)
    own.release()
    (await waiting).release()
    assert admission.in_flight == 0


async def test_a_spare_slot_counts_against_its_callers_share() -> None:
    shares = Shares(2)
    admission = Admission("m", 9, shares=shares)
    with await request_slot(admission, "a"):
        current_caller.set(Caller("a"))
        spare = admission.spare_slot()
        assert spare is not None
        assert admission.spare_slot() is None
        spare.release()
        assert shares.taken("a") == 1
    assert shares.taken("a") == 0


async def test_a_request_that_cannot_finish_before_its_deadline_is_rejected_at_once(clock: Clock) -> None:
    admission = Admission("m", 1, max_waiting=5, clock=clock)
    for _ in range(3):
        await served(admission, clock, 2.0)
    slot = await request_slot(admission)
    error = await rejection(request_slot(admission, deadline=clock.now + 4.1))
    assert (error.status, error.code) == (503, "deadline_out_of_reach")
    assert error.retry_after_s == pytest.approx(2.0)  # when the next slot is free
    just = request_slot(admission, deadline=clock.now + 4.3)
    await settled()
    assert admission.waiting == 1
    clock.now += 3.0  # the request before it takes longer than estimated
    slot.release()
    assert (await rejection(just)).code == "deadline_out_of_reach"
    assert (admission.in_flight, admission.waiting) == (0, 0)


async def test_with_a_free_slot_the_deadline_is_not_compared_with_an_estimate(clock: Clock) -> None:
    admission = Admission("m", 1, clock=clock)
    await served(admission, clock, 10.0)
    with await request_slot(admission, deadline=clock.now + 0.1):
        assert admission.in_flight == 1


async def test_a_request_after_its_deadline_does_not_start(clock: Clock) -> None:
    admission = Admission("m", 1, clock=clock)
    assert (await rejection(request_slot(admission, deadline=clock.now), DeadlineExceededError)).status == 504
    assert admission.in_flight == 0


async def test_a_waiting_request_fails_at_its_deadline(clock: Clock) -> None:
    admission = Admission("m", 1, max_waiting=1, clock=clock)
    with await request_slot(admission):
        assert (
            await rejection(request_slot(admission, deadline=clock.now + 0.001), DeadlineExceededError)
        ).status == 504
        assert admission.waiting == 0
    assert admission.refused == {"deadline_exceeded": 1}


async def test_overdue_time_is_added_to_the_estimate(clock: Clock) -> None:
    admission = Admission("m", 1, clock=clock)
    await served(admission, clock, 2.0)
    clock.now += 1000  # idle time is not overdue
    await request_slot(admission)
    assert (await rejection(request_slot(admission))).retry_after_s == pytest.approx(2.0)
    clock.now += 60
    assert (await rejection(request_slot(admission))).retry_after_s == pytest.approx(60.0)


async def test_a_disconnect_removes_a_waiting_request_from_the_queue() -> None:
    admission = Admission("m", 1, max_waiting=5)
    disconnect = asyncio.Event()

    async def receive() -> Message:
        await disconnect.wait()
        return {"type": "http.disconnect"}

    slot = await request_slot(admission)
    leaving, staying = request_slot(admission, receive=receive), request_slot(admission)
    await settled()
    disconnect.set()
    await rejection(leaving, ClientDisconnectedError)
    assert (admission.waiting, admission.refused) == (1, {"caller_left": 1})
    slot.release()
    (await staying).release()


async def test_a_request_cancelled_when_it_gets_its_slot_passes_the_slot_on() -> None:
    admission = Admission("m", 1, max_waiting=5, shares=Shares(10))
    slot = await request_slot(admission)
    second, third = request_slot(admission), request_slot(admission)
    await settled()
    slot.release()  # the second has the slot now, but its task has not run yet
    second.cancel()
    (await third).release()
    assert second.cancelled()
    assert (admission.in_flight, admission.waiting) == (0, 0)
    assert not admission._shares._taken


async def test_a_request_cancelled_before_its_turn_is_skipped() -> None:
    admission = Admission("m", 1, max_waiting=5)
    slot = await request_slot(admission)
    second, third = request_slot(admission), request_slot(admission)
    await settled()
    second.cancel()
    slot.release()  # before the cancelled task has run
    (await third).release()
    assert (admission.in_flight, admission.waiting) == (0, 0)


async def test_requests_for_one_slot_do_not_overtake_a_request_for_several() -> None:
    admission = Admission("m", 3, max_waiting=5)
    slots = [await request_slot(admission) for _ in range(3)]
    several, one = request_slot(admission, "several", count=3), request_slot(admission, "one")
    await settled()
    for slot in slots[:2]:
        slot.release()
    late = request_slot(admission, "late")
    await settled()
    assert (several.done(), one.done(), late.done()) == (False, False, False)
    slots[2].release()
    await settled()
    assert (several.done(), one.done(), admission.in_flight) == (True, False, 3)
    several.result().release()
    (await one).release()
    (await late).release()


async def test_when_a_request_for_several_slots_is_cancelled_the_next_get_the_free_slots() -> None:
    admission = Admission("m", 2, max_waiting=5)
    slot = await request_slot(admission)
    several, one = request_slot(admission, "several", count=2), request_slot(admission, "one")
    await settled()
    assert not one.done()
    several.cancel()
    (await one).release()
    slot.release()
    assert admission.in_flight == 0


async def test_a_request_for_more_slots_than_exist_is_rejected() -> None:
    assert "3 slots" in (await rejection(request_slot(Admission("m", 2, max_waiting=5), count=3))).detail


async def test_a_held_slot_is_free_after_its_release(clock: Clock) -> None:
    admission = Admission("m", 1, clock=clock)
    with await request_slot(admission) as slot:
        slot.hold()
        clock.now += 1.0
    assert admission.in_flight == 1
    clock.now += 4.0
    slot.release(is_completed=True)
    assert admission.in_flight == 0
    assert admission.times.service_s == 5.0  # includes the time of the hold


async def test_failed_requests_do_not_count_for_the_service_time() -> None:
    admission = Admission("m", 1)
    with pytest.raises(ValueError, match="no"), await request_slot(admission):
        raise ValueError("no")
    assert (admission.in_flight, admission.times.service_s) == (0, None)


async def test_require_capacity_fails_without_a_free_slot(clock: Clock) -> None:
    admission = Admission("m", 1, clock=clock)
    admission.require_capacity()
    with await request_slot(admission), pytest.raises(OverloadedError):
        admission.require_capacity()


async def test_unknown_model_names_take_no_memory_and_share_one_limit() -> None:
    admissions = Admissions(1)
    with await request_slot(admissions.of_name("unknown")):
        for number in range(1000):
            with pytest.raises(OverloadedError):
                admissions.of_name(f"unknown {number}").require_capacity()
        with await request_slot(admissions.of("real")):
            assert admissions.in_flight == 2
    assert [each.model for each in admissions.all] == ["", "real"]
    assert admissions.of_name("real") is admissions.of("real")


def test_a_model_and_its_stream_model_share_slots() -> None:
    admissions = Admissions(3)
    pair = admissions.of_pair("model", "model_stream")
    assert pair is admissions.of("model") is admissions.of_name("model_stream")
    assert admissions.of_pair("another", "model_stream") is pair
    assert [each.model for each in admissions.all] == ["", "model"]


async def test_the_counts_of_a_model_are_reported(clock: Clock) -> None:
    admission = Admission("m", 1, max_waiting=2, clock=clock)
    await served(admission, clock, 2.0)
    await request_slot(admission)
    request_slot(admission)
    await settled()
    assert (admission.in_flight, admission.max_in_flight, admission.waiting, admission.max_waiting) == (1, 1, 1, 2)
    assert (admission.times.service_s, admission.times.interval_s, admission.refused) == (2.0, 2.0, {})


async def test_waiting_is_a_stage_of_the_request() -> None:
    admission = Admission("m", 1, max_waiting=1)
    first = await admission.slot()
    record = RequestRecord("POST")
    current_record.set(record)
    waiting = asyncio.create_task(admission.slot())
    await settled()
    two_seconds_later = record.server_timing(time.perf_counter() + 2).decode()
    assert float(re.findall(r"wait;dur=([\d.]+)", two_seconds_later)[0]) >= 2000
    first.release()
    (await waiting).release()
