# SPDX-License-Identifier: Apache-2.0
"""The load on a fleet, and its outcome: latencies and rejected requests."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Poisson arrivals at `rate` a second, with equally frequent step counts and a limit on requests in flight."""

    rate: float
    step_counts: Sequence[int]
    num_replicas: int
    max_in_flight: int

    @property
    def mean_steps(self) -> float:
        """Mean steps of a request."""
        return statistics.fmean(self.step_counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Latencies of admitted requests, from arrival to picture. `rejected` and `busy` are shares from 0 to 1."""

    p50_s: float
    p95_s: float
    p99_s: float
    mean_s: float
    rejected: float
    busy: float
