# SPDX-License-Identifier: Apache-2.0
"""Markdown tables of the samples and the targets: medians over the rounds, ratios within a round with their spread."""

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.common.ratio import Ratio
from benchmarks.frontend.peers import DIRECT, NAIVE, NGINX, OURS, OURS_V2, PAIRS
from benchmarks.frontend.sample import Sample, Workload

Pick = Callable[[Sample], float]


def cpu(sample: Sample) -> float:
    return sample.cpu_ms


def p50(sample: Sample) -> float:
    return sample.p50_ms


def of(samples: Sequence[Sample], workload: Workload, peer: str) -> list[Sample]:
    return [each for each in samples if (each.workload, each.peer) == (workload, peer)]


def ratio(samples: Sequence[Sample], workload: Workload, peer: str, base: str, pick: Pick) -> Ratio:
    """CPU or latency of one peer relative to another's in the same round."""
    by_round = {each.round: pick(each) for each in of(samples, workload, base)}
    return Ratio.of(
        [pick(each) / by_round[each.round] for each in of(samples, workload, peer) if each.round in by_round]
    )


def workload_table(samples: Sequence[Sample], workload: Workload, peers: Sequence[str]) -> Iterator[str]:
    yield "| | CPU ms | x nginx | p50 ms | p95 ms | x direct p50 | requests/s | Triton's CPU ms |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for peer in peers:
        own = of(samples, workload, peer)
        if not own:
            continue
        has_frontend = peer != DIRECT
        values = [
            f"{_median(own, cpu):.3f}" if has_frontend else "",
            str(ratio(samples, workload, peer, NGINX, cpu)) if has_frontend and peer != NGINX else "",
            f"{_median(own, p50):.2f}",
            f"{_median(own, lambda each: each.p95_ms):.2f}",
            str(ratio(samples, workload, peer, DIRECT, p50)) if has_frontend else "",
            f"{_median(own, lambda each: each.num_answers / each.seconds):.0f}",
            f"{_median(own, lambda each: each.triton_cpu_ms):.2f}" if peer != "LitServe" else "",
        ]
        yield f"| {peer} | {' | '.join(values)} |"


def _median(samples: Sequence[Sample], pick: Pick) -> float:
    return statistics.median(map(pick, samples))


@dataclass(frozen=True, slots=True)
class Target:
    """A target for a ratio."""

    about: str
    peer: str
    base: str
    pick: Pick
    bound: float
    sense: Literal["at most", "at least"]
    workload: Workload

    def row(self, samples: Sequence[Sample]) -> str:
        """A row of the table; empty if it was not measured."""
        if self.sense == "at most":
            reached = ratio(samples, self.workload, self.peer, self.base, self.pick)
            is_met = reached.median <= self.bound
        else:
            reached = ratio(samples, self.workload, self.base, self.peer, self.pick)
            is_met = reached.median >= self.bound
        if reached.median != reached.median:  # NaN: no such samples
            return ""
        verdict = "met" if is_met else "**missed**"
        return f"| {self.workload.name} | {self.about} | {self.sense} {self.bound:g} | {reached} | {verdict} |"


def _targets() -> Iterator[Target]:
    times_nginx, less, latency = "CPU, x nginx", "CPU of the naive handler, x ours", "p50, x direct"
    for size, concurrency, bound, at_least in (
        ("16K", 1, 4.5, 2.7),
        ("16K", 8, 3.0, 3.0),
        ("16K", 32, 3.0, 3.0),
        *(("256K", concurrency, 3.0, 3.0) for concurrency in (1, 8, 32)),
        *(("1.4M", concurrency, 2.75, 3.0) for concurrency in (1, 8, 32)),
    ):
        workload = Workload(size, concurrency)
        yield Target(times_nginx, OURS, NGINX, cpu, bound, "at most", workload)
        yield Target(less, OURS, NAIVE, cpu, at_least, "at least", workload)
    yield Target(latency, OURS, DIRECT, p50, 2.0, "at most", Workload("256K", 1))
    yield Target(latency, OURS, DIRECT, p50, 1.5, "at most", Workload("1.4M", 1))
    for size in ("256K", "1.4M"):
        for concurrency in (1, 8, 32):
            yield Target("CPU through `/v2`, x nginx", OURS_V2, NGINX, cpu, 2.5, "at most", Workload(size, concurrency))


def target_table(samples: Sequence[Sample]) -> Iterator[str]:
    yield "| | | target | median (lowest to highest) | |"
    yield "| --- | --- | --- | --- | --- |"
    yield from filter(None, (target.row(samples) for target in _targets()))


def change_table(samples: Sequence[Sample]) -> Iterator[str]:
    """The cost of the frontend relative to an earlier commit, in the same rounds."""
    yield "| | | CPU ms | CPU, x before: median (lowest to highest) |"
    yield "| --- | --- | ---: | ---: |"
    for workload in dict.fromkeys(each.workload for each in samples):
        for peer, before in PAIRS:
            if own := of(samples, workload, peer):
                change = ratio(samples, workload, peer, before, cpu)
                yield f"| {workload.name} | {peer} | {_median(own, cpu):.3f} | {change} |"
