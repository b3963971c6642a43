# SPDX-License-Identifier: Apache-2.0
"""Outcomes of jobs (first preview, end, wasted steps), and the figures of a trace. Does not import torch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.engine.job import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The outcome of one job. Times are seconds after the trace's start."""

    job: Job
    ended: float  # when work for it ended
    first_preview: float | None = None  # None: the peer has no previews
    wasted_steps: int | None = 0  # steps that ended after the client disconnected; None: unknown
    steps_before_leaving: int = 0  # steps of a client that disconnects, until then; only engines count them


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The figures of one trace and one peer. Latencies are of clients that stay, which are the same for every peer."""

    throughput: float  # pictures per second, until the last client that stays has its picture
    latency_mean: float
    latency_p50: float
    latency_p95: float
    latency_p99: float
    first_preview_mean: float
    wasted_steps: float | None  # mean per disconnect; None: unknown
    wasted_steps_most: int | None
    steps_before_leaving: int = 0  # of all clients that disconnected


def figures(outcomes: Sequence[Outcome], *, pace: float = 1.0) -> Figures:
    """The figures of a trace, with all times normalised to the reference pace."""
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
        steps_before_leaving=sum(each.steps_before_leaving for each in left),
    )
