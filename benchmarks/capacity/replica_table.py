# SPDX-License-Identifier: Apache-2.0
"""A table for one load: latency, rejected requests and cost by number of replicas."""

import math
from collections.abc import Sequence

from benchmarks.capacity.load import Load
from benchmarks.capacity.queueing_model import capacity, outcome
from benchmarks.capacity.replica import Replica
from benchmarks.capacity.simulation import poisson, simulate

_NUM_JOBS = 5000


def table(
    replica: Replica,
    rate: float,
    mean_rate: float,
    step_counts: Sequence[int],
    max_waiting: int,
    dollars_an_hour: float,
) -> str:
    """Rows from too few replicas to more than enough. Costs are for the mean rate."""
    lines = [
        f"{replica.name} ({replica.source}); {rate:g} pictures a second of {', '.join(map(str, step_counts))} steps",
        "",
        "| replicas | load | p50 s | p95 s | p99 s | p99 s simulated | rejected | $ a thousand |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    one = load_of(replica, rate, step_counts, 1, max_waiting)
    fewest = max(1, math.ceil(0.9 * rate / capacity(replica, one)))
    for num_replicas in sorted({fewest, *(math.ceil(fewest * more) for more in (1.1, 1.25, 1.5, 2.0)), fewest + 1}):
        load = load_of(replica, rate, step_counts, num_replicas, max_waiting)
        modelled = outcome(replica, load)
        simulated = simulate(replica, load, poisson(load, num_jobs=_NUM_JOBS, seed=1)).outcome(num_replicas)
        cost = dollars_an_hour * num_replicas / 3600 / (mean_rate * (1 - modelled.rejected)) * 1000
        lines.append(
            f"| {num_replicas} | {rate / capacity(replica, load):.2f} | {modelled.p50_s:.2f} | {modelled.p95_s:.2f} "
            f"| {modelled.p99_s:.2f} | {simulated.p99_s:.2f} | {100 * modelled.rejected:.2g}% | {cost:.2f} |"
        )
    return "\n".join(lines)


def load_of(replica: Replica, rate: float, step_counts: Sequence[int], num_replicas: int, max_waiting: int) -> Load:
    """A load whose limit lets every replica run its maximum, with `max_waiting` more in the queue."""
    return Load(
        rate=rate,
        step_counts=step_counts,
        num_replicas=num_replicas,
        max_in_flight=num_replicas * (replica.max_running + max_waiting),
    )
