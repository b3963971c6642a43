# SPDX-License-Identifier: Apache-2.0
"""The load on a fleet, and its outcome: latencies and rejected requests."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Poisson arrivals at `rate` a second, each step count equally often; beyond `max_in_flight` they are refused."""

    rate: float
    step_counts: Sequence[int]
    num_replicas: int
    max_in_flight: int

    @property
    def mean_steps(self) -> float:
        """Of a request."""
        return statistics.fmean(self.step_counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Seconds from a request's arrival to its picture, of those that were taken; shares are of 1."""

    p50_s: float
    p95_s: float
    p99_s: float
    mean_s: float
    refused: float
    busy: float
