# SPDX-License-Identifier: Apache-2.0
"""The engine's results page, with its data and bar chart."""

import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.common.bar_chart import bar_chart
from benchmarks.common.ratio import Ratio
from benchmarks.common.results_files import write_results
from benchmarks.engine import torch_device
from benchmarks.engine.engine_tables import of, profile_table, ratio, ratio_table, workload_table
from benchmarks.engine.ideal_time import IdealTime
from benchmarks.engine.job import ServiceTime, make_trace
from benchmarks.engine.options import Options
from benchmarks.engine.pass_times import Times, table
from benchmarks.engine.peer_selection import ENGINE, ONE_AT_A_TIME, SERVED
from benchmarks.engine.workloads import Result, Workload

HOW_IT_IS_MEASURED = """\
Every peer gets the same seeded traces, one peer right after the other in random order, with the same networks. Before
and after each, a pass of the networks alone is timed: arrivals follow that pace, and all seconds here are normalised by
it.

- (a) is the stock diffusers pipeline with all cores, one request at a time; (b) gives up to 8 waiting requests with
  equal step counts to one call. Both in virtual time: each call is made, time in which nobody waits is skipped.
- (c) is two processes with the stock pipeline, one thread each, taking from one queue: `instance_group { count: 2 }` on
  a CPU. Real time, like the engine, which has a process of its own with all cores.
- The engine through Triton and frontend is `fastapi-triton serve --embedded`: a real Triton, the frontend, and HTTP on
  the loopback, with callers in the benchmark's own process who send base64 and read events. All of that shares the same
  cores. Leavers close their connection; how many steps they cost is not seen from there.
- Everyone reads the scribble's file and writes a WebP. Engines also write a preview after every step. The stock
  pipeline has no previews: what counts as its first is the picture.
- Mixed jobs have 4, 8, 20 or 50 steps, uniform ones 8. A fifth of the mixed ones' callers leave after a random part of
  the time that their picture would take alone; latencies are of those who stay. The stock pipeline passes over whoever
  left while waiting, and runs on for whoever leaves later.
- A wasted step is one that ended after its caller had left: the one that runs when he leaves counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Everything that a run found out."""

    options: Options
    device: torch.device
    workloads: Sequence[Workload]
    peers: Sequence[str]
    results: list[Result]
    ideal_time: IdealTime
    service: ServiceTime
    times: Times
    max_rows: int

    @property
    def title(self) -> str:
        return self.options.name or f"engine-{torch_device.slug(self.device)}"

    def text(self) -> str:
        lines = [
            "# The engine against stock diffusers",
            "",
            f"{torch_device.describe(self.device)}. `{self.options.command}`",
            "",
            HOW_IT_IS_MEASURED,
            "",
            f"{self._num_repeats()} repeats; ratios are medians of the repeats, with the least and the most. One "
            f"request alone takes the stock pipeline {1000 * self.service.fixed_s:.0f} ms and "
            f"{1000 * self.service.per_step_s:.1f} ms a step.",
            "",
            f"![bars]({self.title}.svg)",
        ]
        for name in self._engines():
            others = [peer for peer in self.peers if peer not in self._engines()]
            others += [ENGINE] if name == SERVED and ENGINE in self.peers else []
            lines += ["", f"## Ratios: {name}", "", *ratio_table(self.results, self.workloads, name, others)]
        for workload in self.workloads:
            lines += ["", f"## {self._heading(workload)}", "", *workload_table(self.results, workload, self.peers)]
        lines += ["", *self._where_time_goes(), "", "## t(rows)", "", *table(self.times)]
        return "\n".join(lines) + "\n"

    def data(self) -> dict[str, Any]:
        return {
            "machine": torch_device.describe(self.device),
            "options": asdict(self.options),
            "service": asdict(self.service),
            "ideal_time": asdict(self.ideal_time),
            "max_rows": self.max_rows,
            "row_seconds": dict(self.times),
            "workloads": [asdict(workload) for workload in self.workloads],
            "results": [asdict(result) for result in self.results],
        }

    def picture(self) -> str:
        groups = {
            workload.name: {peer: self._mean_latency_ratio(workload, peer) for peer in self.peers}
            for workload in self.workloads
        }
        title = "Mean latency relative to one request at a time (all at once: time for all), less is better"
        return bar_chart(title, "x", groups, self.peers)

    def write(self, folder: Path) -> Path:
        data = json.dumps(self.data(), indent=1, default=str) + "\n"
        return write_results(folder / f"{self.title}.md", text=self.text(), data=data, picture=self.picture())

    def efficiency(self, workload: Workload, result: Result) -> float:
        """The part of the networks' best that was reached: 1 is full passes from the first second to the last."""
        seed = 1000 * self.options.seed + result.repeat
        trace = make_trace(
            workload.step_counts, self.service, num_jobs=workload.num_jobs, load=workload.load, seed=seed
        )
        return self.ideal_time.of(trace) * result.figures.throughput / sum(job.stays for job in trace)

    def _num_repeats(self) -> int:
        """Those that everyone has had all of."""
        return len(self.results) // (len(self.workloads) * len(self.peers))

    def _engines(self) -> list[str]:
        return [peer for peer in self.peers if not peer.startswith("(")]

    def _heading(self, workload: Workload) -> str:
        return f"{workload.name[0].upper()}{workload.name[1:]}: {workload.num_jobs} requests"

    def _mean_latency_ratio(self, workload: Workload, peer: str) -> Ratio:
        base, own = of(self.results, workload.name, ONE_AT_A_TIME), of(self.results, workload.name, peer)
        if workload.load is None:
            return ratio(own, base, lambda each: 1 / each.throughput)
        return ratio(own, base, lambda each: each.latency_mean)

    def _where_time_goes(self) -> Iterator[str]:
        yield "## Where the engine's thread spends its time when all come at once"
        for peer in self.peers:
            rows = profile_table(self.results, self.workloads, peer)
            if len(rows) == 2:
                continue
            yield from ("", f"{peer}:", "", *rows, "")
            for workload in self.workloads:
                own = of(self.results, workload.name, peer)
                if workload.load is None and own:
                    reached = statistics.median(self.efficiency(workload, result) for result in own)
                    yield (
                        f"- {workload.name}: {reached:.2f} of what UNet, ControlNet, text and VAE would allow with "
                        f"{self.max_rows} rows in every pass"
                    )
