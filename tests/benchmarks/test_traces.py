# SPDX-License-Identifier: Apache-2.0
"""The benchmark's traces are reproducible and as the results page describes them."""

import pytest

from benchmarks.engine.job import MIXED_STEPS, UNIFORM_STEPS, Job, ServiceTime, make_trace

SERVICE = ServiceTime(fixed_s=0.1, per_step_s=0.01)


def test_same_seed_gives_same_trace_and_other_seed_another() -> None:
    first, again, other = (make_trace(MIXED_STEPS, SERVICE, num_jobs=40, load=0.8, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_step_counts_are_equally_frequent_and_fifth_of_clients_disconnect() -> None:
    trace = make_trace(MIXED_STEPS, SERVICE, num_jobs=40, load=0.8, seed=1)
    assert sorted(job.num_steps for job in trace) == sorted(MIXED_STEPS * 10)
    leaving = [job for job in trace if not job.stays]
    assert len(leaving) == 8
    assert all(0 <= job.leaves_at - job.arrival <= SERVICE.of(job.num_steps) for job in leaving)


def test_arrivals_have_requested_load() -> None:
    trace = make_trace(MIXED_STEPS, SERVICE, num_jobs=4000, load=1.3, seed=1)
    work = sum(SERVICE.of(job.num_steps) for job in trace)
    assert work / trace[-1].arrival == pytest.approx(1.3, rel=0.05)


def test_uniform_trace_arrives_at_start_without_disconnects() -> None:
    trace = make_trace(UNIFORM_STEPS, SERVICE, num_jobs=8, load=None, seed=1)
    assert {(job.arrival, job.num_steps, job.stays) for job in trace} == {(0.0, 8, True)}


def test_prompts_are_unique() -> None:
    traces = [make_trace(MIXED_STEPS, SERVICE, num_jobs=128, load=load, seed=1) for load in (None, 0.8)]
    assert len({job.prompt for trace in traces for job in trace}) == 256


def test_slower_pace_stretches_arrival_and_disconnect() -> None:
    job = Job(index=0, arrival=2.0, num_steps=4, leaves_after=1.0).paced(1.5)
    assert (job.arrival, job.leaves_at) == (3.0, 4.5)
