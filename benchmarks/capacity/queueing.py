# SPDX-License-Identifier: Apache-2.0
"""The capacity model: the fleet as one queue whose speed depends on how many are in it (a birth-death chain).

Requests that run share passes as equals, for which such a chain is exact whatever the step counts; where all places in
a pass are taken the rest waits its turn, and replicas are taken for evenly loaded: both are approximations, which
`simulation.py` checks.
"""

import math
from collections.abc import Iterator, Sequence

from benchmarks.capacity.load import Load, Outcome
from benchmarks.capacity.replica import Replica

# Into how many equally likely parts a wait is cut.
_PARTS = 40


def capacity(replica: Replica, load: Load) -> float:
    """Pictures a second that the fleet makes at most."""
    return load.num_replicas * replica.pictures_per_s(replica.max_running, load.mean_steps)


def outcome(replica: Replica, load: Load) -> Outcome:
    """What callers see in the long run."""
    chances = _stationary(replica, load)
    refused = chances[-1]
    samples = sorted(_latencies(replica, load, chances))
    total = sum(weight for _, weight in samples)
    mean = sum(latency * weight for latency, weight in samples) / total
    busy = sum(chance * min(1.0, number / load.num_replicas) for number, chance in enumerate(chances))
    p50, p95, p99 = (_percentile(samples, share * total) for share in (0.5, 0.95, 0.99))
    return Outcome(p50_s=p50, p95_s=p95, p99_s=p99, mean_s=mean, refused=refused, busy=busy)


def _speed(replica: Replica, load: Load, number: int) -> float:
    """Pictures a second while so many are in the fleet."""
    return load.num_replicas * replica.pictures_per_s(number / load.num_replicas, load.mean_steps)


def _stationary(replica: Replica, load: Load) -> list[float]:
    """How likely it is that 0, 1, … max_in_flight requests are in the fleet."""
    logs = [0.0]
    for number in range(1, load.max_in_flight + 1):
        logs.append(logs[-1] + math.log(load.rate / _speed(replica, load, number)))
    top = max(logs)
    weights = [math.exp(each - top) for each in logs]
    return [each / sum(weights) for each in weights]


def _latencies(replica: Replica, load: Load, chances: Sequence[float]) -> Iterator[tuple[float, float]]:
    """Latencies and their weights: over what an arrival finds, how long it waits, and how many steps it wants."""
    places = load.num_replicas * replica.max_running
    top_speed = _speed(replica, load, places)
    found = chances[:-1]  # who finds the fleet full is refused
    mean_step_s = sum(
        chance * replica.step_time_s(_sharing(replica, load, number + 1), load.mean_steps)
        for number, chance in enumerate(found)
    ) / sum(found)
    for number, chance in enumerate(found):
        if chance < 1e-9:
            continue
        sharing = _sharing(replica, load, number + 1)
        own_step_s = replica.step_time_s(sharing, load.mean_steps)
        ahead = number - places + 1
        joins_s = replica.pass_time_s(sharing) / 2 if number >= load.num_replicas else 0.0
        for wait_s in _erlang_parts(ahead, top_speed) if ahead > 0 else (joins_s,):
            for steps in load.step_counts:
                # A short request meets only what it finds; a long one, more and more, the usual.
                usual = steps / (steps + load.mean_steps)
                step_s = (1 - usual) * own_step_s + usual * mean_step_s
                weight = chance / len(load.step_counts) / (_PARTS if ahead > 0 else 1)
                yield wait_s + steps * step_s + replica.picture_s, weight


def _sharing(replica: Replica, load: Load, number: int) -> float:
    """With how many, itself too, a request shares its passes."""
    return min(max(1.0, number / load.num_replicas), replica.max_running)


def _erlang_parts(ahead: int, speed: float) -> Iterator[float]:
    """The time until `ahead` requests have left, in equally likely parts (Wilson and Hilferty's approximation)."""
    for part in range(_PARTS):
        normal = _normal_quantile((part + 0.5) / _PARTS)
        third = 1 / (9 * ahead)
        yield max(0.0, ahead * (1 - third + normal * math.sqrt(third)) ** 3) / speed


def _normal_quantile(share: float) -> float:
    from statistics import NormalDist

    return NormalDist().inv_cdf(share)


def _percentile(samples: Sequence[tuple[float, float]], weight: float) -> float:
    passed = 0.0
    for latency, each in samples:
        passed += each
        if passed >= weight:
            return latency
    return samples[-1][0]
