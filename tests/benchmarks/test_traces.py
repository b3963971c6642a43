# SPDX-License-Identifier: Apache-2.0
"""The benchmark's traces are the same for everyone, and as the tables say."""

import pytest

from benchmarks.engine.job import MIXED_STEPS, UNIFORM_STEPS, Job, ServiceTime, make_trace

SERVICE = ServiceTime(fixed_s=0.1, per_step_s=0.01)


def test_the_same_seed_gives_the_same_trace_and_another_seed_another() -> None:
    first, again, other = (make_trace(MIXED_STEPS, SERVICE, num_jobs=40, load=0.8, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_every_step_count_is_had_equally_often_and_a_fifth_leave_in_time() -> None:
    trace = make_trace(MIXED_STEPS, SERVICE, num_jobs=40, load=0.8, seed=1)
    assert sorted(job.num_steps for job in trace) == sorted(MIXED_STEPS * 10)
    leavers = [job for job in trace if not job.stays]
    assert len(leavers) == 8
    assert all(0 <= job.leaves_at - job.arrival <= SERVICE.of(job.num_steps) for job in leavers)


def test_arrivals_come_at_the_load_that_was_asked_for() -> None:
    trace = make_trace(MIXED_STEPS, SERVICE, num_jobs=4000, load=1.3, seed=1)
    work = sum(SERVICE.of(job.num_steps) for job in trace)
    assert work / trace[-1].arrival == pytest.approx(1.3, rel=0.05)


def test_all_at_once_means_at_the_start_and_nobody_leaves_a_uniform_trace() -> None:
    trace = make_trace(UNIFORM_STEPS, SERVICE, num_jobs=8, load=None, seed=1)
    assert {(job.arrival, job.num_steps, job.stays) for job in trace} == {(0.0, 8, True)}


def test_no_two_prompts_are_alike() -> None:
    traces = [make_trace(MIXED_STEPS, SERVICE, num_jobs=128, load=load, seed=1) for load in (None, 0.8)]
    assert len({job.prompt for trace in traces for job in trace}) == 256


def test_a_slow_hour_stretches_a_job_as_a_whole() -> None:
    job = Job(index=0, arrival=2.0, num_steps=4, leaves_after=1.0).paced(1.5)
    assert (job.arrival, job.leaves_at) == (3.0, 4.5)
