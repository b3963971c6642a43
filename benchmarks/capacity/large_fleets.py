# SPDX-License-Identifier: Apache-2.0
"""Compute the load on each component of a large fleet from the measured capacity of one."""

import math

from benchmarks.capacity.queueing_model import capacity, outcome
from benchmarks.capacity.replica import ASSUMED_GPU
from benchmarks.capacity.replica_table import load_of

STEPS = (30,)
PEAK = 3.0  # rate of the busiest hour, as a multiple of the mean
LOAD = 0.75  # share of the fleet's capacity that is used in that hour
# benchmarks/results/frontend-amd-epyc-2-cores.md, 1.4 MB each way, 8 clients: the frontend's CPU per picture.
FRONTEND_CPU_S = 0.0041
PICTURE_BYTES = 1_400_000
WEIGHTS_BYTES = 9_400_000_000  # SDXL, its ControlNet and text encoders in 16 bits: benchmarks/results/full-size.md
JOB_WRITES = 5  # rows that a job writes: enqueued, started, its step, completed, reported
DAY_S = 86_400


def table(dollars_an_hour: float) -> str:
    """A Markdown table with one column for each fleet."""
    columns = [_column(per_day, dollars_an_hour) for per_day in (1e6, 1e8)]
    lines = ["| | " + " | ".join(("a million a day", "a hundred million")) + " |", "| --- | ---: | ---: |"]
    lines += [f"| {name} | {columns[0][name]} | {columns[1][name]} |" for name in columns[0]]
    return "\n".join(lines)


def num_gpus(peak_rate: float) -> int:
    """GPUs that carry `peak_rate` at `LOAD`."""
    one = capacity(ASSUMED_GPU, load_of(ASSUMED_GPU, 1.0, STEPS, 1, 8))
    return math.ceil(peak_rate / (LOAD * one))


def _column(per_day: float, dollars_an_hour: float) -> dict[str, str]:
    mean, peak = per_day / DAY_S, PEAK * per_day / DAY_S
    gpus = num_gpus(peak)
    # An autoscaled fleet has the size for the mean load on average. A fixed fleet has the size for the busiest hour.
    scaled = num_gpus(mean)
    return {
        "pictures/s, mean": f"{mean:,.0f}",
        "pictures/s in the busiest hour": f"{peak:,.0f}",
        "GPUs in that hour": f"{gpus:,}",
        "p99 in that hour, s": _p99(peak, gpus),
        "$ a day, fixed fleet": f"{24 * dollars_an_hour * gpus:,.0f}",
        "$ a day, autoscaled": f"{24 * dollars_an_hour * scaled:,.0f}",
        "$ a thousand pictures, autoscaled": f"{24_000 * dollars_an_hour * scaled / per_day:.2f}",
        "frontend cores in the busiest hour": f"{peak * FRONTEND_CPU_S / 0.6:,.1f}",
        "Gbit/s in and out of the frontends": f"{2 * 8 * peak * PICTURE_BYTES / 1e9:,.1f}",
        "TB of pictures stored a day": f"{per_day * PICTURE_BYTES / 1e12:,.1f}",
        "job rows written a second, if all are jobs": f"{JOB_WRITES * peak:,.0f}",
        "TB of weights that a full start reads": f"{gpus * WEIGHTS_BYTES / 1e12:,.1f}",
    }


def _p99(peak: float, gpus: int) -> str:
    load = load_of(ASSUMED_GPU, peak, STEPS, gpus, 8)
    return f"{outcome(ASSUMED_GPU, load).p99_s:.1f}"
