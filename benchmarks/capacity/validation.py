# SPDX-License-Identifier: Apache-2.0
"""Compare the queueing model with the simulation, and the simulation with the measured engine."""

import statistics
from dataclasses import dataclass

from benchmarks.capacity.load import Load, Outcome
from benchmarks.capacity.queueing_model import capacity, outcome
from benchmarks.capacity.replica import MEASURED_CPU, REPLICAS, Replica
from benchmarks.capacity.replica_table import load_of
from benchmarks.capacity.simulation import poisson, simulate
from benchmarks.engine.job import MIXED_STEPS, UNIFORM_STEPS, ServiceTime, make_trace

# The stock pipeline's time for a request alone, in the same runs. The benchmark's arrivals are scaled by it.
_STOCK = ServiceTime(fixed_s=0.022, per_step_s=0.0574)
_NUM_TRACES = 100


@dataclass(frozen=True, slots=True)
class Measured:
    """The engine's figures for a workload of `benchmarks.engine`, from the run that `MEASURED_CPU` was taken from."""

    name: str
    step_counts: tuple[int, ...]
    num_jobs: int
    load: float | None
    pictures_per_s: float
    mean_s: float
    p95_s: float


MEASURED = (
    Measured("all at once, uniform", UNIFORM_STEPS, 32, None, 3.62, 5.42, 8.79),
    Measured("all at once, mixed", MIXED_STEPS, 32, None, 1.41, 10.02, 17.41),
    Measured("load 0.8, mixed", MIXED_STEPS, 16, 0.8, 0.52, 1.82, 5.07),
    Measured("load 1.3, mixed", MIXED_STEPS, 16, 1.3, 0.78, 2.20, 5.73),
)


def against_simulation(num_jobs: int = 6_000) -> str:
    """A Markdown table: the model's and the simulation's figures for several fleets and loads."""
    lines = [
        f"The model compared with a simulation of {num_jobs} requests (model / simulation)",
        "",
        "| replica | steps | replicas | load | p50 s | p95 s | p99 s | rejected |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, replica, counts, num_replicas, share in cases():
        modelled, simulated = both(replica, counts, num_replicas, share, num_jobs)
        lines.append(
            f"| {name} | {', '.join(map(str, counts))} | {num_replicas} | {share:g} "
            f"| {modelled.p50_s:.2f} / {simulated.p50_s:.2f} | {modelled.p95_s:.2f} / {simulated.p95_s:.2f} "
            f"| {modelled.p99_s:.2f} / {simulated.p99_s:.2f} "
            f"| {100 * modelled.rejected:.1f}% / {100 * simulated.rejected:.1f}% |"
        )
    return "\n".join(lines)


def cases() -> list[tuple[str, Replica, tuple[int, ...], int, float]]:
    """The compared fleets: name, replica, step counts, number of replicas, load."""
    return [
        (name, REPLICAS[name], counts, num_replicas, share)
        for name, counts in (("gpu", (30,)), ("gpu", MIXED_STEPS), ("cpu", MIXED_STEPS))
        for num_replicas in (1, 4, 16)
        for share in (0.5, 0.7, 0.9, 1.2)
    ]


def both(
    replica: Replica, step_counts: tuple[int, ...], num_replicas: int, share: float, num_jobs: int
) -> tuple[Outcome, Outcome]:
    """The model's and the simulation's outcome, at a load that is `share` of the fleet's capacity."""
    load: Load = load_of(replica, 1.0, step_counts, num_replicas, max_waiting=8)
    load = load_of(replica, share * capacity(replica, load), step_counts, num_replicas, max_waiting=8)
    record = simulate(replica, load, poisson(load, num_jobs=num_jobs, seed=1))
    return outcome(replica, load), record.outcome(num_replicas)


def against_measured() -> str:
    """A Markdown table of the engine benchmark's workloads, each with many traces, since it has few requests."""
    lines = [
        f"The simulation compared with the measured engine: {MEASURED_CPU.source}; simulated: the median of "
        f"{_NUM_TRACES} traces, and the range of 9 in 10",
        "",
        "| | pictures/s: measured | simulated | mean s: measured | simulated | p95 s: measured | simulated |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for workload in MEASURED:
        rates, means, p95s = replay(workload)
        lines.append(
            f"| {workload.name} | {workload.pictures_per_s:.2f} | {_range(rates)} "
            f"| {workload.mean_s:.2f} | {_range(means)} | {workload.p95_s:.2f} | {_range(p95s)} |"
        )
    return "\n".join(lines)


def replay(workload: Measured) -> tuple[list[float], list[float], list[float]]:
    """Pictures a second, mean and p95 latencies of simulated runs of the workload, one for each trace."""
    rates, means, p95s = [], [], []
    load = Load(rate=1.0, step_counts=workload.step_counts, num_replicas=1, max_in_flight=1000)
    for seed in range(_NUM_TRACES):
        trace = make_trace(workload.step_counts, _STOCK, num_jobs=workload.num_jobs, load=workload.load, seed=seed)
        record = simulate(MEASURED_CPU, load, trace)
        simulated = record.outcome(1)
        rates.append(len(record.latencies) / record.ended_at)
        means.append(simulated.mean_s)
        p95s.append(simulated.p95_s)
    return rates, means, p95s


def _range(values: list[float]) -> str:
    parts = statistics.quantiles(values, n=20)
    return f"{statistics.median(values):.2f} ({parts[0]:.2f} to {parts[-1]:.2f})"
