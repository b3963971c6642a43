# SPDX-License-Identifier: Apache-2.0
"""The engine's queue: who joins next, and what its waiting requests learn. Without torch; the test sets the clock."""

import random
from dataclasses import replace

import pytest
from diffusion_engine.capabilities import Capabilities
from diffusion_engine.queue_estimate import StepTimes
from diffusion_engine.queue_reporter import INTERVAL_S, QueueReporter
from diffusion_engine.request_group import MAX_PASSES
from diffusion_engine.request_parser import parse_request
from diffusion_engine.request_state import BatchKey, NullListener, QueuePosition, RequestState, Status
from diffusion_engine.step_scheduler import StepScheduler

SMALL, BIG = BatchKey(96, 96), BatchKey(192, 192)
REQUEST = parse_request({"seed": 0}, Capabilities(name="any"))
STEP_S = 0.5


class Queue:
    """A step scheduler of one-row steps of half a second for each row, and its reporter."""

    def __init__(self, *, max_rows: int = 1) -> None:
        self.now = 100.0
        self.max_rows = max_rows
        self.started: list[RequestState] = []
        self.sent: list[tuple[RequestState, QueuePosition]] = []
        self.step_scheduler = StepScheduler(max_rows=lambda _: max_rows, drop=lambda *_: None, clock=lambda: self.now)
        self.reporter = QueueReporter(self.step_scheduler, lambda *sent: self.sent.append(sent), clock=lambda: self.now)
        for key in (SMALL, BIG):
            self.reporter.step_times.add(key, 1, duration_s=STEP_S / max_rows, now=0.0)
            self.reporter.step_times.pause()

    def new(self, *, batch: bool = False, steps: int = 1, guided: bool = False, key: BatchKey = SMALL) -> RequestState:
        scale = 4.0 if guided else 1.0
        request = replace(REQUEST, is_batch=batch, num_inference_steps=steps, guidance_scale=scale)
        return RequestState(request=request, key=key, listener=NullListener(), arrived=self.now)

    def add(self, *, batch: bool = False, steps: int = 1, guided: bool = False, key: BatchKey = SMALL) -> RequestState:
        state = self.new(batch=batch, steps=steps, guided=guided, key=key)
        self.step_scheduler.add_request(state)
        return state

    def step(self) -> None:
        for state in self.step_scheduler.schedule():
            if state.step_index == 0:
                self.started.append(state)
            state.step_index += 1
            if state.remaining_steps == 0:
                self.step_scheduler.remove_request(state)

    def run(self) -> None:
        while len(self.step_scheduler):
            self.step()


# ---- turns


def test_interactive_requests_pass_batch_requests_which_get_every_fourth_turn() -> None:
    queue = Queue()
    batch = [queue.add(batch=True) for _ in range(3)]
    interactive = [queue.add() for _ in range(5)]
    queue.run()
    assert queue.started == [*interactive[:3], batch[0], *interactive[3:], *batch[1:]]


def test_a_running_batch_request_goes_on() -> None:
    queue = Queue()
    running = queue.add(batch=True, steps=3)
    queue.step()
    queue.add()
    queue.step()
    assert running.step_index == 2


@pytest.mark.parametrize("seed", range(20))
def test_a_batch_request_waits_a_bounded_number_of_turns(seed: int) -> None:
    choose = random.Random(seed)  # noqa: S311
    queue = Queue(max_rows=choose.randint(2, 5))
    bounds: dict[RequestState, int] = {}
    for _ in range(400):
        for _ in range(choose.choice((0, 1, 2, 3))):
            is_batch = choose.random() < 0.3
            num_before = sum(each.request.is_batch and each.status is Status.WAITING for each in queue.step_scheduler)
            state = queue.add(batch=is_batch, steps=choose.randint(1, 6), guided=choose.random() < 0.5)
            if is_batch:
                bounds[state] = len(queue.started) + (MAX_PASSES + 1) * (num_before + 1)
        queue.step()
    queue.run()
    turns = {state: turn for turn, state in enumerate(queue.started, start=1)}
    assert bounds
    assert all(turns[state] <= bound for state, bound in bounds.items())


# ---- positions and times


@pytest.mark.parametrize("seed", range(20))
def test_positions_and_times_are_those_of_the_steps_to_come(seed: int) -> None:
    choose = random.Random(seed)  # noqa: S311
    queue = Queue(max_rows=choose.randint(2, 6))
    for _ in range(25):
        queue.add(batch=choose.random() < 0.4, steps=choose.randint(1, 9), guided=choose.random() < 0.5)
        if choose.random() < 0.3:
            queue.step()
    found = queue.step_scheduler.positions(queue.reporter.step_times)
    num_started = len(queue.started)
    first_step: dict[RequestState, int] = {}
    last_step: dict[RequestState, int] = {}
    for num_steps in range(1000):
        before = set(queue.step_scheduler)
        queue.step()
        first_step |= dict.fromkeys(set(queue.started) - first_step.keys(), num_steps)
        last_step |= dict.fromkeys(before - set(queue.step_scheduler), num_steps + 1)
    assert [found[state].position for state in queue.started[num_started:]] == list(range(1, len(found) + 1))
    for state, place in found.items():
        assert place.estimated_wait_s == pytest.approx(first_step[state] * STEP_S)
        assert place.estimated_total_s == pytest.approx(last_step[state] * STEP_S)


def test_sizes_take_turns_so_each_waits_twice_as_long() -> None:
    queue = Queue()
    queue.add(steps=2)
    queue.add(steps=2, key=BIG)
    queue.step()
    queue.step()
    waiting = queue.add(key=BIG)
    assert queue.step_scheduler.positions(queue.reporter.step_times)[waiting] == QueuePosition(1, 1.0, 2.0)


def test_there_are_no_times_before_the_first_step() -> None:
    queue = Queue()
    state = queue.add()
    assert queue.step_scheduler.positions(StepTimes()) == {state: QueuePosition(1)}


def test_the_time_of_a_step_includes_the_work_between_steps_but_no_idle_time() -> None:
    times = StepTimes()
    times.add(SMALL, 2, duration_s=1.0, now=10.0)
    assert times.seconds_per_row(SMALL) == 0.5
    times.add(SMALL, 2, duration_s=1.0, now=13.0)  # two seconds of decoding
    assert times.seconds_per_row(SMALL) == pytest.approx(0.6)
    times.pause()
    times.add(BIG, 1, duration_s=1.0, now=100.0)
    assert (times.seconds_per_row(BIG), times.longest) == (1.0, 1.0)


# ---- reports


def test_a_request_has_a_position_while_its_scribble_is_decoded() -> None:
    queue = Queue()
    queue.add(steps=4)
    queue.step()
    first, second = queue.new(steps=4), queue.new()
    queue.reporter.arrived(first)
    queue.reporter.arrived(second)
    assert queue.reporter.position_of(second) == QueuePosition(2, 3.5, 4.0)
    queue.reporter.left(first)  # its scribble is not a picture
    assert queue.reporter.position_of(second) == QueuePosition(1, 1.5, 2.0)


def test_a_request_that_runs_already_is_next_without_a_wait() -> None:
    queue = Queue()
    running = queue.add(steps=2)
    queue.step()
    assert queue.reporter.position_of(running) == QueuePosition(1, 0.0)


def test_changed_positions_are_reported_at_most_once_a_second() -> None:
    queue = Queue()
    _, second, third = (queue.add() for _ in range(3))
    assert [queue.reporter.position_of(state).position for state in (second, third)] == [2, 3]
    queue.reporter.report()
    assert queue.sent == []
    queue.step()
    queue.now += INTERVAL_S / 2
    queue.reporter.report()
    assert queue.sent == []
    queue.now += INTERVAL_S / 2
    queue.reporter.report()
    assert [(state, place.position) for state, place in queue.sent] == [(second, 1), (third, 2)]
    queue.now += INTERVAL_S
    queue.reporter.report()
    assert len(queue.sent) == 2  # unchanged
    queue.step()
    queue.now += INTERVAL_S
    queue.reporter.report()
    assert [(state, place.position) for state, place in queue.sent[2:]] == [(third, 1)]
