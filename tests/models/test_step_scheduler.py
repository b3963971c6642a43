# SPDX-License-Identifier: Apache-2.0
"""Who shares the next denoise step. No torch, no time: a clock that the test moves."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from diffusion_engine.capabilities import Capabilities
from diffusion_engine.errors import RequestError
from diffusion_engine.request_parser import parse_request
from diffusion_engine.request_state import BatchKey, NullListener, RequestState, Status
from diffusion_engine.step_scheduler import Policy, StepScheduler

SMALL, BIG = BatchKey(96, 96), BatchKey(192, 192)
REQUEST = parse_request({"seed": 0}, Capabilities(name="any"))


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Floor:
    """A step scheduler with everything around it; `step` does what an engine would, without any network."""

    def __init__(self, *, max_rows: int | Callable[[BatchKey], int] = 4, policy: Policy = Policy.FIRST_COME) -> None:
        self.clock = Clock()
        self.dropped: list[tuple[RequestState, str]] = []
        self.step_scheduler = StepScheduler(
            max_rows=max_rows if callable(max_rows) else lambda _: max_rows,
            drop=lambda state, error: self.dropped.append((state, error.code)),
            policy=policy,
            clock=self.clock,
        )

    def add_request(
        self, *, steps: int = 10, guided: bool = False, key: BatchKey = SMALL, timeout_s: float | None = None
    ) -> RequestState:
        guidance_scale = 4.0 if guided else 1.0
        request = replace(REQUEST, num_inference_steps=steps, guidance_scale=guidance_scale, timeout_s=timeout_s)
        state = RequestState(request=request, key=key, listener=NullListener(), arrived=self.clock())
        self.step_scheduler.add_request(state)
        return state

    def step(self) -> list[RequestState]:
        chosen = self.step_scheduler.schedule()
        for state in chosen:
            state.step_index += 1
            if state.remaining_steps == 0:
                self.step_scheduler.remove_request(state)
        return chosen


def test_with_nobody_there_is_nothing_to_do() -> None:
    floor = Floor()
    assert floor.step() == []
    assert len(floor.step_scheduler) == 0


def test_a_guided_request_takes_two_rows_and_another_one() -> None:
    floor = Floor(max_rows=4)
    guided, plain, second_plain = floor.add_request(guided=True), floor.add_request(), floor.add_request()
    assert floor.add_request() not in floor.step()
    assert floor.step() == [guided, plain, second_plain]


@pytest.mark.parametrize("policy", Policy)
def test_one_request_is_let_through_even_when_its_rows_are_too_many(policy: Policy) -> None:
    floor = Floor(max_rows=1, policy=policy)
    guided = floor.add_request(guided=True)
    floor.add_request()
    assert floor.step() == [guided] if policy is Policy.FIRST_COME else floor.step() != []
    alone = Floor(max_rows=1, policy=policy)
    only = alone.add_request(guided=True)
    assert alone.step() == [only]


def test_who_does_not_fit_is_not_overtaken_by_a_smaller_one_that_would() -> None:
    floor = Floor(max_rows=3)
    running, waiting = floor.add_request(guided=True), floor.add_request(guided=True)
    small = floor.add_request()
    assert floor.step() == [running]
    assert (waiting.status, small.status) == (Status.WAITING, Status.WAITING)


def test_who_runs_goes_on_and_who_waits_comes_in_when_rows_are_free() -> None:
    floor = Floor(max_rows=2)
    short, long, waiting = floor.add_request(steps=1), floor.add_request(steps=3), floor.add_request(steps=3)
    assert [floor.step() for _ in range(4)] == [[short, long], [long, waiting], [long, waiting], [waiting]]
    assert floor.step() == []


def test_shortest_remaining_goes_first_and_the_rest_is_filled_up() -> None:
    floor = Floor(max_rows=3, policy=Policy.SHORTEST_REMAINING)
    long, short, guided = (
        floor.add_request(steps=50),
        floor.add_request(steps=4),
        floor.add_request(steps=4, guided=True),
    )
    assert floor.step() == [short, guided]  # 4 and 8 row-steps are left, before 50
    shorter = floor.add_request(steps=1, guided=True)
    assert floor.step() == [shorter, short]  # the guided one pauses
    assert guided.status is Status.RUNNING
    assert long.status is Status.WAITING


def test_shortest_remaining_counts_what_remains_and_not_what_was_asked() -> None:
    floor = Floor(max_rows=1, policy=Policy.SHORTEST_REMAINING)
    started = floor.add_request(steps=5)
    floor.step()
    floor.step()
    newcomer = floor.add_request(steps=4)
    assert floor.step() == [started]
    assert newcomer.status is Status.WAITING


def test_sizes_take_turns_however_many_ask_for_one() -> None:
    floor = Floor(max_rows=8)
    crowd = [floor.add_request(key=BIG) for _ in range(6)]
    single = floor.add_request(key=SMALL)
    assert [floor.step() for _ in range(4)] == [crowd, [single], crowd, [single]]


def test_a_size_that_comes_back_gets_a_turn_again() -> None:
    floor = Floor()
    floor.add_request(steps=1, key=SMALL)
    floor.step()
    assert len(floor.step_scheduler) == 0
    again, other = floor.add_request(key=SMALL), floor.add_request(key=BIG)
    assert [floor.step(), floor.step(), floor.step()] == [[again], [other], [again]]


def test_every_size_has_its_own_limit() -> None:
    floor = Floor(max_rows=lambda key: 1 if key == BIG else 3)
    big, _ = floor.add_request(key=BIG), floor.add_request(key=BIG)
    small = [floor.add_request(key=SMALL) for _ in range(4)]
    assert floor.step() == [big]
    assert floor.step() == small[:3]


def test_a_limit_that_was_lowered_holds_for_those_who_run() -> None:
    limit = 4
    floor = Floor(max_rows=lambda _: limit)
    crowd = [floor.add_request(steps=2) for _ in range(4)]
    assert floor.step() == crowd
    limit = 3
    assert floor.step() == crowd[:3]
    assert floor.step() == crowd[3:]


@pytest.mark.parametrize("has_started", [True, False])
def test_a_cancelled_request_is_dropped_before_the_next_step_and_told_once(has_started: bool) -> None:
    floor = Floor(max_rows=1)
    gone, other = floor.add_request(), floor.add_request()
    if has_started:
        floor.step()
    gone.cancel()
    gone.cancel()
    assert floor.step() == [other]
    floor.step()
    assert floor.dropped == [(gone, "cancelled")]
    assert len(floor.step_scheduler) == 1


def test_a_late_request_is_dropped_and_told_once_even_when_it_still_waits() -> None:
    floor = Floor(max_rows=1)
    running, waiting = floor.add_request(timeout_s=5.0), floor.add_request(timeout_s=5.0)
    patient = floor.add_request()
    floor.clock.now += 5.0
    assert floor.step() == [running]  # not late yet
    floor.clock.now += 0.001
    assert floor.step() == [patient]
    assert floor.dropped == [(running, "deadline_exceeded"), (waiting, "deadline_exceeded")]


def test_a_request_that_is_cancelled_and_late_is_told_that_it_was_cancelled() -> None:
    floor = Floor()
    gone = floor.add_request(timeout_s=1.0)
    gone.cancel()
    floor.clock.now += 2.0
    floor.step()
    assert floor.dropped == [(gone, "cancelled")]


def test_those_of_another_size_are_dropped_too() -> None:
    floor = Floor()
    floor.add_request(key=SMALL)
    gone = floor.add_request(key=BIG)
    gone.cancel()
    floor.step()
    assert floor.dropped == [(gone, "cancelled")]
    assert [len(floor.step()) for _ in range(3)] == [1, 1, 1]  # its size has no empty turn


def test_a_retired_request_frees_its_rows_and_leaves_no_trace() -> None:
    floor = Floor(max_rows=1)
    evicted, next_one = floor.add_request(), floor.add_request()
    floor.step()
    floor.step_scheduler.remove_request(evicted)
    assert floor.step() == [next_one]
    assert list(floor.step_scheduler) == [next_one]
    with pytest.raises((KeyError, ValueError)):
        floor.step_scheduler.remove_request(evicted)


def test_who_is_chosen_runs_and_who_is_not_waits() -> None:
    floor = Floor(max_rows=1)
    first, second = floor.add_request(), floor.add_request()
    assert (first.status, second.status) == (Status.WAITING, Status.WAITING)
    floor.step()
    assert (first.status, second.status) == (Status.RUNNING, Status.WAITING)


@pytest.mark.parametrize("policy", Policy)
@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_nobody_is_lost_or_served_twice_and_no_limit_is_broken(seed: int, policy: Policy) -> None:
    choose = random.Random(seed)  # noqa: S311
    limits = {SMALL: choose.randint(1, 6), BIG: choose.randint(1, 3), BatchKey(96, 160): choose.randint(1, 9)}
    floor = Floor(max_rows=lambda key: limits[key], policy=policy)
    admitted: list[RequestState] = []
    finished: list[RequestState] = []
    turn_of: dict[BatchKey, int] = {}
    arrivals_left = 150
    for turn in range(20_000):
        if not arrivals_left and not len(floor.step_scheduler):
            break
        for _ in range(min(arrivals_left, choose.choice((0, 0, 0, 1, 1, 3)))):
            arrivals_left -= 1
            admitted.append(
                floor.add_request(
                    steps=choose.randint(1, 12),
                    guided=choose.random() < 0.5,
                    key=choose.choice(list(limits)),
                    timeout_s=choose.choice((None, None, None, 5.0, 30.0)),
                )
            )
        if choose.random() < 0.05 and len(floor.step_scheduler):
            choose.choice(list(floor.step_scheduler)).cancel()
        floor.clock.now += choose.random()
        may_run = {id(each) for each in floor.step_scheduler if each.interruption(floor.clock()) is None}
        sizes_with_work = {each.key for each in floor.step_scheduler if id(each) in may_run}
        chosen = floor.step()
        assert bool(chosen) == bool(may_run)
        if not chosen:
            continue
        (key,) = {each.key for each in chosen}
        assert len(chosen) == 1 or sum(each.num_rows for each in chosen) <= limits[key]
        assert len(chosen) == len({id(each) for each in chosen})
        assert {id(each) for each in chosen} <= may_run
        # No size has two turns while another one that had work all the time has none.
        turn_of[key] = turn
        assert all(turn - turn_of.setdefault(other, turn) <= len(limits) for other in sizes_with_work)
        turn_of = {other: at for other, at in turn_of.items() if other in sizes_with_work}
        finished += [each for each in chosen if each.remaining_steps == 0]
    assert len(floor.step_scheduler) == 0
    ended = Counter(id(each) for each in finished) + Counter(id(each) for each, _ in floor.dropped)
    assert ended == Counter(id(each) for each in admitted)
    assert set(ended.values()) == {1}
    assert {code for _, code in floor.dropped} <= {"cancelled", "deadline_exceeded"}
    assert all(each.step_index == each.num_steps for each in finished)


@pytest.mark.parametrize("seed", range(10))
def test_first_come_starts_everybody_of_a_size_in_order_of_arrival(seed: int) -> None:
    choose = random.Random(seed)  # noqa: S311
    floor = Floor(max_rows=choose.randint(2, 6))
    arrived, started = [], []
    for _ in range(300):
        if choose.random() < 0.4:
            arrived.append(floor.add_request(steps=choose.randint(1, 9), guided=choose.random() < 0.5))
        started += [each for each in floor.step() if each.step_index == 1]
    while len(floor.step_scheduler):
        started += [each for each in floor.step() if each.step_index == 1]
    assert started == arrived


def test_the_reason_tells_what_to_do_about_it() -> None:
    floor = Floor()
    late = floor.add_request(timeout_s=1.0)
    error = late.interruption(floor.clock() + 2)
    assert isinstance(error, RequestError)
    assert (error.code, error.field) == ("deadline_exceeded", "timeout_s")
    assert "fewer steps" in error.detail
