# SPDX-License-Identifier: Apache-2.0
"""The speed of a replica: its running requests share passes of the networks, and each picture takes extra time."""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """One engine.

    Attributes:
        pass_s: the time of a pass by its rows, t(rows), as measured; interpolated linearly between the measured rows.
        rows_per_request: 2 with guidance, 1 without.
        picture_s: the time for a picture outside passes (text encoders, control embedding, VAE).
        overhead: further time, as a share of a pass.
    """

    name: str
    source: str
    pass_s: Mapping[int, float]
    max_rows: int
    rows_per_request: int = 2
    picture_s: float = 0.0
    overhead: float = 0.0

    @property
    def max_running(self) -> int:
        """The most requests that share a pass; further ones wait."""
        return self.max_rows // self.rows_per_request

    def pass_time_s(self, num_requests: float) -> float:
        """A pass of `num_requests` requests, including the overhead."""
        rows = num_requests * self.rows_per_request
        points = sorted(self.pass_s)
        if rows <= points[0]:
            pass_s = self.pass_s[points[0]]
        else:
            right = min(bisect_left(points, rows), len(points) - 1)
            low, high = points[right - 1], points[right]
            slope = (self.pass_s[high] - self.pass_s[low]) / (high - low)
            pass_s = self.pass_s[low] + slope * (rows - low)
        return pass_s * (1 + self.overhead)

    def step_time_s(self, num_requests: float, mean_steps: float) -> float:
        """One step while `num_requests` run: the pass, and the pictures that finish meanwhile."""
        return self.pass_time_s(num_requests) + num_requests * self.picture_s / mean_steps

    def pictures_per_s(self, num_requests: float, mean_steps: float) -> float:
        """Finished pictures while `num_requests` run. Below one, it is the share of time in which one runs."""
        if num_requests < 1:
            return num_requests * self.pictures_per_s(1, mean_steps)
        running = min(num_requests, self.max_running)
        return running / (mean_steps * self.step_time_s(running, mean_steps))


MEASURED_CPU = Replica(
    name="the demo checkpoint on 2 cores",
    source="benchmarks/results/engine-amd-epyc-2-cores.md",
    pass_s={1: 0.0318, 2: 0.0493, 4: 0.0727, 8: 0.1210, 16: 0.2208},
    max_rows=16,
    picture_s=0.022,
    overhead=0.03,
)
LARGER_CPU = Replica(
    name="larger networks on 2 cores: sharing a pass gains nothing",
    source="benchmarks/results/rows-x5-amd-epyc-2-cores.md",
    pass_s={1: 1.0312, 2: 1.9004, 4: 3.7215, 8: 7.5133, 16: 15.7998},
    max_rows=2,
    overhead=0.03,
)
# Assumed, since no GPU was measured for this project: a current data-centre GPU makes about one picture of 30 guided
# steps at 1024x1024 a second, and sharing a pass saves little. `make bench-gpu` measures yours.
ASSUMED_GPU = Replica(
    name="a GPU that makes about a picture a second",
    source="assumed, not measured",
    pass_s={2: 0.033, 4: 0.062, 8: 0.120},
    max_rows=8,
    picture_s=0.1,
)
REPLICAS = {"cpu": MEASURED_CPU, "larger-cpu": LARGER_CPU, "gpu": ASSUMED_GPU}
