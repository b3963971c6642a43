# SPDX-License-Identifier: Apache-2.0
"""Passes whose rows are divided among threads."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusion_engine import cpu_parallel
from diffusion_engine.cpu_parallel import CPU_PARALLEL_SIZE, CPUParallel, suitable_cpu_parallel_size, use_cores
from diffusion_engine.denoiser import Denoiser
from diffusion_engine.networks import Networks

SMALL = {"width": 96, "height": 96, "num_inference_steps": 3}
# 2, 1, 2, 1 and 2 rows: a part ends within a request, and one part has rows without the ControlNet.
BATCH: list[dict[str, Any]] = [
    {"conditioning_scale": 0.0},
    {"guidance_scale": 1.0, "seed": 2},
    {"conditioning_scale": 0.4, "seed": 3},
    {"guidance_scale": 1.0, "control_guidance_start": 0.9},
    {"scheduler": b"lcm", "seed": 4},
]


@pytest.mark.parametrize("num_requests", range(1, len(BATCH) + 1))
def test_split_pass_equals_a_whole_pass(make_driver: Callable[..., Any], networks: Networks, num_requests: int) -> None:
    driver = make_driver(networks=replace(networks, cpu_parallel_size=1), max_rows=16)
    for values in BATCH[:num_requests]:
        driver.join(**SMALL, **values)
    driver.step()
    states = list(driver.engine.step_scheduler)
    whole = Denoiser(replace(networks, cpu_parallel_size=1)).predict(states)
    for cpu_parallel_size in (2, 3):
        dealt = Denoiser(replace(networks, cpu_parallel_size=cpu_parallel_size)).predict(states)
        for mine, other in zip(dealt, whole, strict=True):
            assert torch.allclose(mine, other, atol=1e-4)


def test_functions_run_at_the_same_time_and_return_in_order() -> None:
    meeting = threading.Barrier(2, timeout=30)

    def work(number: int) -> torch.Tensor:
        meeting.wait()
        time.sleep(0.02 * (2 - number))
        return torch.tensor(number)

    assert [int(each) for each in CPUParallel(2).run([lambda: work(0), lambda: work(1)])] == [0, 1]


def test_each_thread_has_its_share_of_the_cores_and_other_threads_keep_theirs() -> None:
    before = torch.get_num_threads()
    counts = CPUParallel(2).run([lambda: torch.tensor(torch.get_num_threads())] * 2)
    assert [int(count) for count in counts] == [max(1, before // 2)] * 2
    assert torch.get_num_threads() == before
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [before]


def test_no_thread_sets_its_cores_after_the_first_functions_have_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread of the pool may start late, when another has run all functions."""
    turns, ended = iter((0.0, 0.2)), []

    def set_cores(count: int) -> None:
        time.sleep(next(turns))
        ended.append(count)

    monkeypatch.setattr(cpu_parallel, "use_cores", set_cores)
    CPUParallel(2).run([lambda: torch.zeros(1)] * 2)
    assert len(ended) == 2


def test_a_pool_that_cannot_start_is_opened_again_in_the_next_run(monkeypatch: pytest.MonkeyPatch) -> None:
    start, left = threading.Thread.start, 1

    def start_one(self: threading.Thread) -> None:
        nonlocal left
        if left == 0:
            raise RuntimeError("can't start new thread")
        left -= 1
        start(self)

    parallel, functions = CPUParallel(2), [lambda: torch.ones(1)] * 2
    with monkeypatch.context() as limit:
        limit.setattr(cpu_parallel, "use_cores", lambda count: None)
        limit.setattr(threading.Thread, "start", start_one)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            parallel.run(functions)
    assert [int(each) for each in parallel.run(functions)] == [1, 1]


def test_a_thread_goes_on_with_all_cores_if_the_machine_has_no_thread_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    before = torch.get_num_threads()
    monkeypatch.setattr(threading.Thread, "start", fail)
    use_cores(1)
    assert torch.get_num_threads() == before


def test_only_the_engines_own_thread_uses_all_cores(make_driver: Callable[..., Any]) -> None:
    counts: list[int] = []
    driver = make_driver()
    driver.engine.output_processor._tasks.put(lambda: counts.append(torch.get_num_threads()))
    driver.engine.output_processor.flush()
    pool = driver.engine._picture_decoders
    handlers = pool._handlers

    def ready(state: Any) -> None:
        counts.append(torch.get_num_threads())
        handlers.ready(state)

    pool._handlers = replace(handlers, ready=ready)
    driver.join(**SMALL)  # reads a scribble; LoRAs are loaded there, too
    for limit in (None, 1):
        thread = threading.Thread(target=lambda: counts.append(cores_of_this_thread(limit)))  # noqa: B023
        thread.start()
        thread.join()
    assert counts == [1, 1, torch.get_num_threads(), 1]


def cores_of_this_thread(limit: int | None) -> int:
    use_cores(limit)
    return torch.get_num_threads()


def test_single_function_runs_on_the_calling_thread() -> None:
    threads: list[threading.Thread] = []

    def work() -> torch.Tensor:
        threads.append(threading.current_thread())
        return torch.zeros(1)

    CPUParallel(2).run([work])
    assert threads == [threading.current_thread()]


def test_failure_is_raised_when_all_threads_have_ended() -> None:
    done: list[bool] = []

    def fail() -> torch.Tensor:
        raise ValueError("broken")

    def finish() -> torch.Tensor:
        time.sleep(0.05)
        done.append(True)
        return torch.zeros(1)

    with pytest.raises(ValueError, match="broken"):
        CPUParallel(2).run([fail, finish])
    assert done == [True]


def test_gpu_runs_whole_passes() -> None:
    assert suitable_cpu_parallel_size(torch.device("cuda")) == 1
    assert suitable_cpu_parallel_size(torch.device("cpu")) == (
        CPU_PARALLEL_SIZE if torch.get_num_threads() >= CPU_PARALLEL_SIZE else 1
    )
