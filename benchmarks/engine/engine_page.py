# SPDX-License-Identifier: Apache-2.0
"""The engine's results page, with its data and bar chart."""

import json
import statistics
from collections import Counter
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
from benchmarks.engine.peer import COMPARED, ONE_AT_A_TIME
from benchmarks.engine.workloads import Result, Workload

HOW_IT_IS_MEASURED = """\
Every peer gets the same seeded traces with the same networks. In each repeat the peers run directly after one another,
in random order. Before and after each trace, the benchmark times a pass of the networks alone. Arrivals follow that
pace, and all seconds are normalised by it.

- **(a)** is the stock diffusers pipeline with all cores, one request at a time. **(b)** puts up to 8 waiting requests
  with equal step counts into one call. Both run in virtual time: each call is made and timed, and time without waiting
  requests is skipped.
- **(c)** is two processes with the stock pipeline and one thread each, on one queue, like `instance_group { count: 2 }`
  on a CPU. It runs in real time, like the engine, which has its own process with all cores.
- **engine through Triton and frontend** is `fastapi-triton serve --embedded`: a real Triton, the frontend, and HTTP on
  loopback. The clients run in the benchmark's process, send base64 and read events. All of this shares the same cores.
- **engine, cache 0.8** and the engines with LoRAs get the requests that arrive all at once, with this option, or with
  one of four LoRAs with random weights. A server that holds one LoRA at a time is imitated by an
  engine that serves all requests of one LoRA before those of the next.
- All peers read the scribble's file and write a WebP. Engines also write a preview after every step. The stock pipeline
  has no previews, so its picture counts as the first preview.
- Mixed requests have 4, 8, 20 or 50 steps, uniform ones 8. A fifth of the mixed requests' clients disconnect, after a
  random part of the time that their picture would take alone. Latencies are of the other requests.
- After a disconnect, the stock pipeline skips a request that still waits, and completes one that runs.
- A step is wasted if it ends after its client disconnected. The step that runs at that moment counts. Wasted steps
  through Triton and frontend are unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The results of a run, as a page, data and a bar chart."""

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
            "# The engine compared with stock diffusers",
            "",
            f"{torch_device.describe(self.device)}. `{self.options.command}`",
            "",
            HOW_IT_IS_MEASURED,
            "",
            f"{self._num_repeats()} repeats. Ratios are medians over the repeats, with the lowest and the highest. "
            f"The stock pipeline takes {1000 * self.service.fixed_s:.0f} ms, "
            f"and {1000 * self.service.per_step_s:.1f} ms for each step, for a request alone.",
            "",
            f"![bars]({self.title}.svg)",
        ]
        for name in self._engines():
            others = [peer for peer in self.peers if peer not in self._engines()]
            others += [peer for peer in COMPARED.get(name, ()) if peer in self.peers]
            lines += ["", f"## Ratios: {name}", "", *ratio_table(self.results, self.workloads, name, others)]
        for workload in self.workloads:
            lines += ["", f"## {self._heading(workload)}", "", *workload_table(self.results, workload, self.peers)]
        lines += ["", *self._where_time_goes(), "", "## Time of a pass by rows, t(rows)", "", *table(self.times)]
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
            workload.name: {
                peer: self._mean_latency_ratio(workload, peer)
                for peer in self.peers
                if of(self.results, workload.name, peer)
            }
            for workload in self.workloads
        }
        title = "Mean latency relative to one request at a time (all at once: total time), less is better"
        return bar_chart(title, "x", groups, self.peers)

    def write(self, folder: Path) -> Path:
        data = json.dumps(self.data(), indent=1, default=str) + "\n"
        return write_results(folder / f"{self.title}.md", text=self.text(), data=data, picture=self.picture())

    def efficiency(self, workload: Workload, result: Result, *, counts_leaving: bool = True) -> float:
        """Throughput relative to the ideal: at 1, all passes are full from the first second to the last.

        Args:
            counts_leaving: the ideal includes the steps for clients that disconnect, until they do.
        """
        seed = 1000 * self.options.seed + result.repeat
        trace = make_trace(
            workload.step_counts, self.service, num_jobs=workload.num_jobs, load=workload.load, seed=seed
        )
        steps = result.figures.steps_before_leaving if counts_leaving else 0
        ideal = self.ideal_time.of(trace, steps_before_leaving=steps)
        return ideal * result.figures.throughput / sum(job.stays for job in trace)

    def _num_repeats(self) -> int:
        """Repeats that are complete for all peers."""
        return min(Counter((each.workload, each.peer) for each in self.results).values(), default=0)

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
        yield "## Time of the engine's thread, all at once"
        for peer in self.peers:
            rows = profile_table(self.results, self.workloads, peer)
            if len(rows) == 2:
                continue
            yield from ("", f"{peer}:", "", *rows, "")
            for workload in self.workloads:
                own = of(self.results, workload.name, peer)
                if workload.load is None and own:
                    reached, without_leaving = (
                        statistics.median(self.efficiency(workload, each, counts_leaving=counts) for each in own)
                        for counts in (True, False)
                    )
                    yield (
                        f"- {workload.name}: {reached:.2f} of the throughput that UNet, ControlNet, text encoders and "
                        f"VAE alone would allow with {self.max_rows} rows in every pass ({without_leaving:.2f} if the "
                        "steps for clients that disconnected later count as lost)"
                    )
