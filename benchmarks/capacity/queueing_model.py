# SPDX-License-Identifier: Apache-2.0
"""The capacity model: a replica as a queue whose speed depends on its number of requests (a birth-death chain).

Running requests share passes equally. For those, the chain is exact for any step counts. Two parts are approximations:
requests that wait because the pass is full, and the arrivals at a replica. Each arrival goes to the less loaded of two
replicas; the model assumes that the others are many and in their stationary state.
"""

import math
from collections.abc import Iterator, Sequence
from statistics import NormalDist

from benchmarks.capacity.load import Load, Outcome
from benchmarks.capacity.replica import Replica

# Number of equally likely parts into which a wait is divided.
_PARTS = 40
_ROUNDS = 300


def capacity(replica: Replica, load: Load) -> float:
    """The most pictures per second that the fleet can make."""
    return load.num_replicas * replica.pictures_per_s(replica.max_running, load.mean_steps)


def outcome(replica: Replica, load: Load) -> Outcome:
    """Latencies and rejected requests in the stationary state."""
    probabilities, rates = _stationary(replica, load)
    taken = sum(probability * rate for probability, rate in zip(probabilities, rates, strict=True))
    found = [probability * rate / taken for probability, rate in zip(probabilities, rates, strict=True)]
    samples = sorted(_latencies(replica, load, found))
    total = sum(weight for _, weight in samples)
    p50, p95, p99 = (_percentile(samples, share * total) for share in (0.5, 0.95, 0.99))
    return Outcome(
        p50_s=p50,
        p95_s=p95,
        p99_s=p99,
        mean_s=sum(latency * weight for latency, weight in samples) / total,
        rejected=max(0.0, 1 - taken * load.num_replicas / load.rate),
        busy=1 - probabilities[0],
    )


def _stationary(replica: Replica, load: Load) -> tuple[list[float], list[float]]:
    """The probability of 0, 1, … requests at a replica, and the rate of arrivals in each of these states."""
    most = load.max_in_flight // load.num_replicas
    rate = load.rate / load.num_replicas
    speeds = [replica.pictures_per_s(number, load.mean_steps) for number in range(most + 1)]
    rates = [rate] * most + [0.0]
    probabilities = _birth_death(rates, speeds)
    if load.num_replicas == 1:
        return probabilities, rates
    for _ in range(_ROUNDS):
        # An arrival goes to a replica with n requests if one of the two drawn has n, and the other n or more.
        at_least = [sum(probabilities[number:]) for number in range(most + 2)]
        rates = [rate * (at_least[number] + at_least[number + 1]) for number in range(most)] + [0.0]
        probabilities = [(old + new) / 2 for old, new in zip(probabilities, _birth_death(rates, speeds), strict=True)]
    return probabilities, rates


def _birth_death(rates: Sequence[float], speeds: Sequence[float]) -> list[float]:
    logs = [0.0]
    for number in range(1, len(rates)):
        logs.append(logs[-1] + math.log(max(rates[number - 1], 1e-300) / speeds[number]))
    top = max(logs)
    weights = [math.exp(each - top) for each in logs]
    return [each / sum(weights) for each in weights]


def _latencies(replica: Replica, load: Load, found: Sequence[float]) -> Iterator[tuple[float, float]]:
    """Latencies and their weights, over the state at arrival, the wait and the number of steps."""
    most = replica.max_running
    speed = replica.pictures_per_s(most, load.mean_steps)
    step_s = [replica.step_time_s(min(number + 1, most), load.mean_steps) for number in range(len(found))]
    mean_step_s = sum(probability * each for probability, each in zip(found, step_s, strict=True))
    for number, probability in enumerate(found):
        ahead = number - most + 1
        joins_s = replica.pass_time_s(min(number, most)) / 2 if number else 0.0  # half of the running pass
        waits = list(_erlang_parts(ahead, speed)) if ahead > 0 else [joins_s]
        for steps in load.step_counts:
            # A short request runs in the state at its arrival. The longer it runs, the more it meets the mean state.
            mean_share = steps / (steps + load.mean_steps)
            serves_s = steps * ((1 - mean_share) * step_s[number] + mean_share * mean_step_s) + replica.picture_s
            for wait_s in waits:
                yield wait_s + serves_s, probability / len(load.step_counts) / len(waits)


def _erlang_parts(ahead: int, speed: float) -> Iterator[float]:
    """The time until `ahead` requests have finished, in equally likely parts (approximation by Wilson and Hilferty)."""
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
