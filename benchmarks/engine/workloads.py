# SPDX-License-Identifier: Apache-2.0
"""Workloads and their measurement. Every peer runs every trace, and the machine's speed is measured around it."""

import logging
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks.engine.engine_profiler import EngineProfile
from benchmarks.engine.job import MIXED_STEPS, UNIFORM_STEPS, Job, ServiceTime, make_trace
from benchmarks.engine.outcome import Figures, figures
from benchmarks.engine.peer import FEATURES, Peer

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A kind of load: the jobs and their rate."""

    name: str
    step_counts: tuple[int, ...]
    load: float | None  # as a multiple of the capacity of one request at a time; None: all at once
    num_jobs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The result of one trace and one peer."""

    workload: str
    peer: str
    repeat: int
    pace: float  # of the machine, relative to the reference: at 1.1 it is ten percent slower
    pace_spread: float  # relative difference between before and after
    figures: Figures
    profile: EngineProfile | None = None  # None: not an engine


def standard_workloads(*, saturated_jobs: int, loaded_jobs: int) -> tuple[Workload, ...]:
    return (
        Workload(name="all at once, uniform", step_counts=UNIFORM_STEPS, load=None, num_jobs=saturated_jobs),
        Workload(name="all at once, mixed", step_counts=MIXED_STEPS, load=None, num_jobs=saturated_jobs),
        Workload(name="load 0.8, mixed", step_counts=MIXED_STEPS, load=0.8, num_jobs=loaded_jobs),
        Workload(name="load 1.3, mixed", step_counts=MIXED_STEPS, load=1.3, num_jobs=loaded_jobs),
    )


def measure(
    workloads: Sequence[Workload],
    peers: Sequence[Peer],
    *,
    repeats: int,
    service: ServiceTime,
    probe: Callable[[], float],
    reference: float,
    seed: int,
    give_up_at: float = math.inf,
) -> Iterator[Result]:
    """Run every workload on every peer, and yield the results.

    Args:
        reference: the probe's time when `service` was measured, which is pace 1.
        give_up_at: no repeat starts that would probably end after this time of `time.monotonic()`.
    """
    began = time.monotonic()
    for repeat in range(repeats):
        now = time.monotonic()
        if repeat and now + (now - began) / repeat > give_up_at:
            logger.info("stopped after %d of %d repeats: no time for another", repeat, repeats)
            return
        for workload in workloads:
            trace = make_trace(
                workload.step_counts, service, num_jobs=workload.num_jobs, load=workload.load, seed=1000 * seed + repeat
            )
            order = [peer for peer in peers if workload.load is None or peer.name not in FEATURES]
            random.Random(repeat).shuffle(order)  # noqa: S311
            for peer in order:
                yield _run_trace(peer, trace, workload=workload.name, repeat=repeat, probe=lambda: probe() / reference)


def _run_trace(peer: Peer, trace: Sequence[Job], *, workload: str, repeat: int, probe: Callable[[], float]) -> Result:
    before = probe()
    started = time.monotonic()
    outcomes = peer.run([job.paced(before) for job in trace])
    took = time.monotonic() - started
    after = probe()
    pace = (before + after) / 2
    result = Result(
        workload=workload,
        peer=peer.name,
        repeat=repeat,
        pace=pace,
        pace_spread=abs(after - before) / pace,
        figures=figures(outcomes, pace=pace),
        profile=peer.profile(),
    )
    logger.info(
        "repeat %d, %s, %s: %.1f s, pace %.2f, %.2f pictures/s, mean latency %.2f s, first preview %.2f s",
        repeat + 1,
        workload,
        peer.name,
        took,
        pace,
        result.figures.throughput,
        result.figures.latency_mean,
        result.figures.first_preview_mean,
    )
    return result
