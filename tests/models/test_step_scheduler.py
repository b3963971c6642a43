# SPDX-License-Identifier: Apache-2.0
"""The requests of the next step. Without torch; the test sets the clock."""

import math
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from diffusion_engine.capabilities import Capabilities
from diffusion_engine.errors import RequestError
from diffusion_engine.request import LoRA
from diffusion_engine.request_parser import parse_request
from diffusion_engine.request_state import BatchKey, NullListener, RequestState, Status, UsedLoRA
from diffusion_engine.step_scheduler import Policy, StepScheduler

SMALL, BIG = BatchKey(96, 96), BatchKey(192, 192)
REQUEST = parse_request({"seed": 0}, Capabilities(name="any"))


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class SchedulerHarness:
    """A step scheduler with a clock and dropped requests. `step` runs a step like the engine, without networks."""

    def __init__(
        self,
        *,
        max_rows: int | Callable[[BatchKey], int] = 4,
        max_lora_bytes: float = math.inf,
        policy: Policy = Policy.FIRST_COME,
    ) -> None:
        self.clock = Clock()
        self.dropped: list[tuple[RequestState, str]] = []
        self.step_scheduler = StepScheduler(
            max_rows=max_rows if callable(max_rows) else lambda _: max_rows,
            max_lora_bytes=max_lora_bytes,
            drop=lambda state, error: self.dropped.append((state, error.code)),
            policy=policy,
            clock=self.clock,
        )

    def add_request(
        self,
        *,
        steps: int = 10,
        guided: bool = False,
        key: BatchKey = SMALL,
        timeout_s: float | None = None,
        lora: tuple[str, float, int] | None = None,
    ) -> RequestState:
        """Args: lora: its name, its scale and its bytes."""
        guidance_scale = 4.0 if guided else 1.0
        request = replace(REQUEST, num_inference_steps=steps, guidance_scale=guidance_scale, timeout_s=timeout_s)
        state = RequestState(request=request, key=key, listener=NullListener(), arrived=self.clock())
        if lora is not None:
            name, scale, num_bytes = lora
            state.request = replace(request, loras=(LoRA(name=name, scale=scale),))
            state.loras = (UsedLoRA(name=name, scale=scale, sha256="", changes_texts=False, num_bytes=num_bytes),)
        self.step_scheduler.add_request(state)
        return state

    def step(self) -> list[RequestState]:
        chosen = self.step_scheduler.schedule()
        for state in chosen:
            state.step_index += 1
            if state.remaining_steps == 0:
                self.step_scheduler.remove_request(state)
        return chosen


def test_adapters_of_a_step_fit_into_their_memory() -> None:
    """Each combination of adapters and scales takes as much as the largest one. The same combination is there once."""
    harness = SchedulerHarness(max_rows=8, max_lora_bytes=100)
    first, same, plain = (harness.add_request(lora=lora) for lora in (("a", 1.0, 40), ("a", 1.0, 40), None))
    other_scale, large = harness.add_request(lora=("a", 0.5, 40)), harness.add_request(lora=("b", 1.0, 90))
    behind = harness.add_request()
    assert harness.step() == [first, same, plain, other_scale]
    for state in (first, same, plain):
        harness.step_scheduler.remove_request(state)
    assert harness.step() == [other_scale]  # two combinations of 90 bytes do not fit
    harness.step_scheduler.remove_request(other_scale)
    assert harness.step() == [large, behind]


def test_adapter_beyond_the_memory_of_a_step_runs_alone() -> None:
    harness = SchedulerHarness(max_lora_bytes=100)
    large = harness.add_request(lora=("a", 1.0, 200))
    assert harness.step() == [large]


def test_without_requests_the_step_is_empty() -> None:
    harness = SchedulerHarness()
    assert harness.step() == []
    assert len(harness.step_scheduler) == 0


def test_request_with_guidance_has_two_rows_and_others_one() -> None:
    harness = SchedulerHarness(max_rows=4)
    guided, plain, second_plain = harness.add_request(guided=True), harness.add_request(), harness.add_request()
    assert harness.add_request() not in harness.step()
    assert harness.step() == [guided, plain, second_plain]


@pytest.mark.parametrize("policy", Policy)
def test_single_request_over_the_row_limit_runs(policy: Policy) -> None:
    harness = SchedulerHarness(max_rows=1, policy=policy)
    guided = harness.add_request(guided=True)
    harness.add_request()
    assert harness.step() == [guided] if policy is Policy.FIRST_COME else harness.step() != []
    alone = SchedulerHarness(max_rows=1, policy=policy)
    only = alone.add_request(guided=True)
    assert alone.step() == [only]


def test_smaller_request_does_not_overtake_one_that_waits() -> None:
    harness = SchedulerHarness(max_rows=3)
    running, waiting = harness.add_request(guided=True), harness.add_request(guided=True)
    small = harness.add_request()
    assert harness.step() == [running]
    assert (waiting.status, small.status) == (Status.WAITING, Status.WAITING)


def test_waiting_request_joins_the_running_ones_when_rows_are_free() -> None:
    harness = SchedulerHarness(max_rows=2)
    short, long, waiting = harness.add_request(steps=1), harness.add_request(steps=3), harness.add_request(steps=3)
    assert [harness.step() for _ in range(4)] == [[short, long], [long, waiting], [long, waiting], [waiting]]
    assert harness.step() == []


def test_shortest_remaining_runs_first_and_others_fill_the_rows() -> None:
    harness = SchedulerHarness(max_rows=3, policy=Policy.SHORTEST_REMAINING)
    long, short, guided = (
        harness.add_request(steps=50),
        harness.add_request(steps=4),
        harness.add_request(steps=4, guided=True),
    )
    assert harness.step() == [short, guided]  # steps * rows that remain: 4 and 8, before 50
    shorter = harness.add_request(steps=1, guided=True)
    assert harness.step() == [shorter, short]  # the one with guidance pauses
    assert guided.status is Status.RUNNING
    assert long.status is Status.WAITING


def test_shortest_remaining_counts_remaining_steps() -> None:
    harness = SchedulerHarness(max_rows=1, policy=Policy.SHORTEST_REMAINING)
    started = harness.add_request(steps=5)
    harness.step()
    harness.step()
    newcomer = harness.add_request(steps=4)
    assert harness.step() == [started]
    assert newcomer.status is Status.WAITING


def test_sizes_take_turns_with_any_number_of_requests() -> None:
    harness = SchedulerHarness(max_rows=8)
    crowd = [harness.add_request(key=BIG) for _ in range(6)]
    single = harness.add_request(key=SMALL)
    assert [harness.step() for _ in range(4)] == [crowd, [single], crowd, [single]]


def test_size_with_new_requests_gets_a_turn_again() -> None:
    harness = SchedulerHarness()
    harness.add_request(steps=1, key=SMALL)
    harness.step()
    assert len(harness.step_scheduler) == 0
    again, other = harness.add_request(key=SMALL), harness.add_request(key=BIG)
    assert [harness.step(), harness.step(), harness.step()] == [[again], [other], [again]]


def test_every_size_has_its_own_limit() -> None:
    harness = SchedulerHarness(max_rows=lambda key: 1 if key == BIG else 3)
    big, _ = harness.add_request(key=BIG), harness.add_request(key=BIG)
    small = [harness.add_request(key=SMALL) for _ in range(4)]
    assert harness.step() == [big]
    assert harness.step() == small[:3]


def test_lowered_limit_applies_to_running_requests() -> None:
    limit = 4
    harness = SchedulerHarness(max_rows=lambda _: limit)
    crowd = [harness.add_request(steps=2) for _ in range(4)]
    assert harness.step() == crowd
    limit = 3
    assert harness.step() == crowd[:3]
    assert harness.step() == crowd[3:]


@pytest.mark.parametrize("has_started", [True, False])
def test_cancelled_request_is_dropped_once_before_the_next_step(has_started: bool) -> None:
    harness = SchedulerHarness(max_rows=1)
    cancelled, other = harness.add_request(), harness.add_request()
    if has_started:
        harness.step()
    cancelled.cancel()
    cancelled.cancel()
    assert harness.step() == [other]
    harness.step()
    assert harness.dropped == [(cancelled, "cancelled")]
    assert len(harness.step_scheduler) == 1


def test_request_past_its_deadline_is_dropped_once_even_while_it_waits() -> None:
    harness = SchedulerHarness(max_rows=1)
    running, waiting = harness.add_request(timeout_s=5.0), harness.add_request(timeout_s=5.0)
    patient = harness.add_request()
    harness.clock.now += 5.0
    assert harness.step() == [running]  # not late yet
    harness.clock.now += 0.001
    assert harness.step() == [patient]
    assert harness.dropped == [(running, "deadline_exceeded"), (waiting, "deadline_exceeded")]


def test_late_request_that_was_cancelled_ends_as_cancelled() -> None:
    harness = SchedulerHarness()
    cancelled = harness.add_request(timeout_s=1.0)
    cancelled.cancel()
    harness.clock.now += 2.0
    harness.step()
    assert harness.dropped == [(cancelled, "cancelled")]


def test_cancelled_requests_of_other_sizes_are_dropped_too() -> None:
    harness = SchedulerHarness()
    harness.add_request(key=SMALL)
    cancelled = harness.add_request(key=BIG)
    cancelled.cancel()
    harness.step()
    assert harness.dropped == [(cancelled, "cancelled")]
    assert [len(harness.step()) for _ in range(3)] == [1, 1, 1]  # its size has no empty turn


def test_removed_request_frees_its_rows() -> None:
    harness = SchedulerHarness(max_rows=1)
    evicted, next_one = harness.add_request(), harness.add_request()
    harness.step()
    harness.step_scheduler.remove_request(evicted)
    assert harness.step() == [next_one]
    assert list(harness.step_scheduler) == [next_one]
    with pytest.raises((KeyError, ValueError)):
        harness.step_scheduler.remove_request(evicted)


def test_chosen_requests_run_and_others_wait() -> None:
    harness = SchedulerHarness(max_rows=1)
    first, second = harness.add_request(), harness.add_request()
    assert (first.status, second.status) == (Status.WAITING, Status.WAITING)
    harness.step()
    assert (first.status, second.status) == (Status.RUNNING, Status.WAITING)


@pytest.mark.parametrize("policy", Policy)
@pytest.mark.parametrize("seed", range(20))
def test_no_request_is_lost_or_runs_twice_in_a_step_and_no_limit_is_exceeded(seed: int, policy: Policy) -> None:
    choose = random.Random(seed)  # noqa: S311
    limits = {SMALL: choose.randint(1, 6), BIG: choose.randint(1, 3), BatchKey(96, 160): choose.randint(1, 9)}
    harness = SchedulerHarness(max_rows=lambda key: limits[key], policy=policy)
    admitted: list[RequestState] = []
    finished: list[RequestState] = []
    turn_of: dict[BatchKey, int] = {}
    arrivals_left = 150
    for turn in range(20_000):
        if not arrivals_left and not len(harness.step_scheduler):
            break
        for _ in range(min(arrivals_left, choose.choice((0, 0, 0, 1, 1, 3)))):
            arrivals_left -= 1
            admitted.append(
                harness.add_request(
                    steps=choose.randint(1, 12),
                    guided=choose.random() < 0.5,
                    key=choose.choice(list(limits)),
                    timeout_s=choose.choice((None, None, None, 5.0, 30.0)),
                )
            )
        if choose.random() < 0.05 and len(harness.step_scheduler):
            choose.choice(list(harness.step_scheduler)).cancel()
        harness.clock.now += choose.random()
        may_run = {id(each) for each in harness.step_scheduler if each.interruption(harness.clock()) is None}
        sizes_with_work = {each.key for each in harness.step_scheduler if id(each) in may_run}
        chosen = harness.step()
        assert bool(chosen) == bool(may_run)
        if not chosen:
            continue
        (key,) = {each.key for each in chosen}
        assert len(chosen) == 1 or sum(each.num_rows for each in chosen) <= limits[key]
        assert len(chosen) == len({id(each) for each in chosen})
        assert {id(each) for each in chosen} <= may_run
        # No size has two turns while another one with waiting requests has none.
        turn_of[key] = turn
        assert all(turn - turn_of.setdefault(other, turn) <= len(limits) for other in sizes_with_work)
        turn_of = {other: at for other, at in turn_of.items() if other in sizes_with_work}
        finished += [each for each in chosen if each.remaining_steps == 0]
    assert len(harness.step_scheduler) == 0
    ended = Counter(id(each) for each in finished) + Counter(id(each) for each, _ in harness.dropped)
    assert ended == Counter(id(each) for each in admitted)
    assert set(ended.values()) == {1}
    assert {code for _, code in harness.dropped} <= {"cancelled", "deadline_exceeded"}
    assert all(each.step_index == each.num_steps for each in finished)


@pytest.mark.parametrize("seed", range(10))
def test_first_come_starts_requests_of_a_size_in_order_of_arrival(seed: int) -> None:
    choose = random.Random(seed)  # noqa: S311
    harness = SchedulerHarness(max_rows=choose.randint(2, 6))
    arrived, started = [], []
    for _ in range(300):
        if choose.random() < 0.4:
            arrived.append(harness.add_request(steps=choose.randint(1, 9), guided=choose.random() < 0.5))
        started += [each for each in harness.step() if each.step_index == 1]
    while len(harness.step_scheduler):
        started += [each for each in harness.step() if each.step_index == 1]
    assert started == arrived


def test_deadline_error_has_a_remedy() -> None:
    harness = SchedulerHarness()
    late = harness.add_request(timeout_s=1.0)
    error = late.interruption(harness.clock() + 2)
    assert isinstance(error, RequestError)
    assert (error.code, error.field) == ("deadline_exceeded", "timeout_s")
    assert "fewer steps" in error.detail
