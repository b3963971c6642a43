# SPDX-License-Identifier: Apache-2.0
"""The capacity model: one replica as a queue whose speed depends on how many are in it (a birth-death chain).

Requests that run share passes as equals, for which such a chain is exact whatever the step counts are. Where all places
in a pass are taken the rest waits its turn, and the other replicas are taken for so many that a replica's share of the
arrivals follows from their usual state (each arrival goes to the less loaded of two): both are approximations.
"""

import math
from collections.abc import Iterator, Sequence
from statistics import NormalDist

from benchmarks.capacity.load import Load, Outcome
from benchmarks.capacity.replica import Replica

# Into how many equally likely parts a wait is cut.
_PARTS = 40
_ROUNDS = 300


def capacity(replica: Replica, load: Load) -> float:
    """Pictures a second that the fleet makes at most."""
    return load.num_replicas * replica.pictures_per_s(replica.max_running, load.mean_steps)


def outcome(replica: Replica, load: Load) -> Outcome:
    """What callers see in the long run."""
    chances, rates = _stationary(replica, load)
    taken = sum(chance * rate for chance, rate in zip(chances, rates, strict=True))
    found = [chance * rate / taken for chance, rate in zip(chances, rates, strict=True)]
    samples = sorted(_latencies(replica, load, found))
    total = sum(weight for _, weight in samples)
    p50, p95, p99 = (_percentile(samples, share * total) for share in (0.5, 0.95, 0.99))
    return Outcome(
        p50_s=p50,
        p95_s=p95,
        p99_s=p99,
        mean_s=sum(latency * weight for latency, weight in samples) / total,
        refused=max(0.0, 1 - taken * load.num_replicas / load.rate),
        busy=1 - chances[0],
    )


def _stationary(replica: Replica, load: Load) -> tuple[list[float], list[float]]:
    """How likely 0, 1, … requests are at a replica, and at what rate it is given another then."""
    most = load.max_in_flight // load.num_replicas
    rate = load.rate / load.num_replicas
    speeds = [replica.pictures_per_s(number, load.mean_steps) for number in range(most + 1)]
    rates = [rate] * most + [0.0]
    chances = _birth_death(rates, speeds)
    if load.num_replicas == 1:
        return chances, rates
    for _ in range(_ROUNDS):
        # An arrival comes to a replica with n where one of the two drawn has n, and the other as many or more.
        at_least = [sum(chances[number:]) for number in range(most + 2)]
        rates = [rate * (at_least[number] + at_least[number + 1]) for number in range(most)] + [0.0]
        chances = [(old + new) / 2 for old, new in zip(chances, _birth_death(rates, speeds), strict=True)]
    return chances, rates


def _birth_death(rates: Sequence[float], speeds: Sequence[float]) -> list[float]:
    logs = [0.0]
    for number in range(1, len(rates)):
        logs.append(logs[-1] + math.log(max(rates[number - 1], 1e-300) / speeds[number]))
    top = max(logs)
    weights = [math.exp(each - top) for each in logs]
    return [each / sum(weights) for each in weights]


def _latencies(replica: Replica, load: Load, found: Sequence[float]) -> Iterator[tuple[float, float]]:
    """Latencies and their weights: over what an arrival finds, how long it waits, and how many steps it wants."""
    most = replica.max_running
    speed = replica.pictures_per_s(most, load.mean_steps)
    step_s = [replica.step_time_s(min(number + 1, most), load.mean_steps) for number in range(len(found))]
    usual_s = sum(chance * each for chance, each in zip(found, step_s, strict=True))
    for number, chance in enumerate(found):
        ahead = number - most + 1
        joins_s = replica.pass_time_s(min(number, most)) / 2 if number else 0.0  # the pass that runs ends first
        waits = list(_erlang_parts(ahead, speed)) if ahead > 0 else [joins_s]
        for steps in load.step_counts:
            # A short request meets only what it finds; a long one, more and more, the usual.
            usual = steps / (steps + load.mean_steps)
            serves_s = steps * ((1 - usual) * step_s[number] + usual * usual_s) + replica.picture_s
            for wait_s in waits:
                yield wait_s + serves_s, chance / len(load.step_counts) / len(waits)


def _erlang_parts(ahead: int, speed: float) -> Iterator[float]:
    """The time until `ahead` requests have left, in equally likely parts (Wilson and Hilferty's approximation)."""
    third = 1 / (9 * ahead)
    for part in range(_PARTS):
        normal = NormalDist().inv_cdf((part + 0.5) / _PARTS)
        yield max(0.0, ahead * (1 - third + normal * math.sqrt(third)) ** 3) / speed


def _percentile(samples: Sequence[tuple[float, float]], weight: float) -> float:
    passed = 0.0
    for latency, each in samples:
        passed += each
        if passed >= weight:
            return latency
    return samples[-1][0]
