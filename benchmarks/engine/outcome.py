# SPDX-License-Identifier: Apache-2.0
"""Outcomes of jobs (first preview, end, wasted steps), and the figures of a trace. Does not import torch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.engine.job import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One job's end. Times are seconds after the trace's start."""

    job: Job
    ended: float  # when nothing was done for it any more
    first_preview: float | None = None  # of the stock pipeline: the picture itself
    wasted_steps: int | None = 0  # that ended after the caller had left; None: not known


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One trace through one peer. Latencies are of callers who stay: those are the same ones for every peer."""

    throughput: float  # pictures a second, until the last caller who stays has its own
    latency_mean: float
    latency_p50: float
    latency_p95: float
    latency_p99: float
    first_preview_mean: float
    wasted_steps: float | None  # a leaving caller, on average; None: not known
    wasted_steps_most: int | None


def figures(outcomes: Sequence[Outcome], *, pace: float = 1.0) -> Figures:
    """All times brought to the pace of the reference."""
    stayed = [each for each in outcomes if each.job.stays]
    left = [each for each in outcomes if not each.job.stays]
    latencies = np.array([each.ended - each.job.arrival for each in stayed]) / pace
    previews = [each.ended if each.first_preview is None else each.first_preview for each in stayed]
    shown = np.array([at - each.job.arrival for at, each in zip(previews, stayed, strict=True)]) / pace
    makespan = (max(each.ended for each in stayed) - min(each.job.arrival for each in outcomes)) / pace
    p50, p95, p99 = (float(value) for value in np.percentile(latencies, (50, 95, 99)))
    wasted = [each.wasted_steps for each in left if each.wasted_steps is not None]
    is_known = len(wasted) == len(left)
    return Figures(
        throughput=len(stayed) / makespan,
        latency_mean=float(latencies.mean()),
        latency_p50=p50,
        latency_p95=p95,
        latency_p99=p99,
        first_preview_mean=float(shown.mean()),
        wasted_steps=sum(wasted) / max(1, len(wasted)) if is_known else None,
        wasted_steps_most=max(wasted, default=0) if is_known else None,
    )
