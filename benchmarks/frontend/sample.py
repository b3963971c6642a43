# SPDX-License-Identifier: Apache-2.0
"""One measurement: one way, one size, one number of callers, in one round."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cell:
    """What is asked of every way in a round."""

    size: str
    concurrency: int

    @property
    def name(self) -> str:
        return f"{self.size}, {self.concurrency} at once"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Its outcome. CPU is per answered request, of whole process trees; NaN where there is no frontend."""

    round: int
    way: str
    size: str
    concurrency: int
    num_answers: int
    seconds: float
    cpu_ms: float
    triton_cpu_ms: float
    caller_cpu_ms: float
    p50_ms: float
    p95_ms: float

    @property
    def cell(self) -> Cell:
        return Cell(self.size, self.concurrency)
