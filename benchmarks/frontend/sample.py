# SPDX-License-Identifier: Apache-2.0
"""One measurement: a peer, a workload (size and number of clients) and a round."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Workload:
    """The size of the requests, and the number of clients."""

    size: str
    concurrency: int

    @property
    def name(self) -> str:
        return f"{self.size}, {self.concurrency} at once"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The results of a measurement. CPU is per request, of whole process trees; NaN without a frontend."""

    round: int
    peer: str
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
    def workload(self) -> Workload:
        return Workload(self.size, self.concurrency)
