# SPDX-License-Identifier: Apache-2.0
"""The frontend's results page, with its data and bar chart."""

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from benchmarks.common import machine
from benchmarks.common.bar_chart import bar_chart
from benchmarks.common.results_files import write_results
from benchmarks.frontend.frontend_tables import cpu, ratio, target_table, workload_table
from benchmarks.frontend.litserve_environment import REQUIREMENT
from benchmarks.frontend.peers import DIRECT, LAYERS, NGINX, PEERS
from benchmarks.frontend.sample import Sample, Workload

PACKAGES = ("fastapi", "starlette", "uvicorn", "uvloop", "httptools", "pydantic", "tritonclient", "aiohttp")
HOW_IT_IS_MEASURED = """\
Every round measures every workload on every peer once, in random order. Clients run in a closed loop on keep-alive
connections, after a warm-up. CPU is the time of the whole process tree per request, by the kernel's clock of each
process. The model returns the picture of the request. The first response of each measurement is compared byte by byte,
the others by status and length. A wrong response ends the run.

Look at CPU and ratios. Clients and Triton share the cores, so requests per second and p50 with many clients are limits
of the machine."""


@dataclass(slots=True)
class Page:
    """The samples of all rounds, and the files that hold them."""

    file: Path
    samples: list[Sample]
    machines: list[str]

    @classmethod
    def open(cls, folder: Path, name: str, *, is_new: bool) -> Self:
        """The page of this name, with the samples of its files unless `is_new`."""
        file = folder / f"{name or f'frontend-{machine.cpu_slug()}'}.md"
        data: dict[str, Any] = {}
        if not is_new and file.with_suffix(".json").is_file():
            data = json.loads(file.with_suffix(".json").read_text())
        here = describe()
        machines = [*data.get("machines", ()), here]
        return cls(file, [Sample(**each) for each in data.get("samples", ())], list(dict.fromkeys(machines)))

    @property
    def num_rounds(self) -> int:
        return 1 + max((sample.round for sample in self.samples), default=-1)

    def text(self) -> str:
        peers = [peer for peer in (*PEERS, *LAYERS) if any(sample.peer == peer.name for sample in self.samples)]
        lines = [
            "# The cost of the frontend",
            "",
            *(f"{each}." for each in self.machines),
            "`make bench-frontend`",
            "",
            HOW_IT_IS_MEASURED,
            "",
            *(f"- **{peer.name}**: {peer.about}" for peer in peers),
            "",
            f"{self.num_rounds} rounds. Ratios are medians over the rounds, with the lowest and the highest.",
            "",
            f"![bars]({self.file.stem}.svg)",
            "",
            "## Targets",
            "",
            *target_table(self.samples),
        ]
        for workload in self.workloads():
            lines += [
                "",
                f"## {workload.name}",
                "",
                *workload_table(self.samples, workload, [peer.name for peer in peers]),
            ]
        return "\n".join(lines) + "\n"

    def workloads(self) -> Sequence[Workload]:
        return list(dict.fromkeys(sample.workload for sample in self.samples))

    def picture(self) -> str:
        names = [peer.name for peer in (*PEERS, *LAYERS) if peer.name not in (DIRECT, NGINX)]
        ratios = {
            workload.name: {name: ratio(self.samples, workload, name, NGINX, cpu) for name in names}
            for workload in self.workloads()
        }
        groups = {
            workload: {name: each for name, each in bars.items() if each.median == each.median}
            for workload, bars in ratios.items()
        }
        shown = [name for name in names if any(name in bars for bars in groups.values())]
        return bar_chart("CPU per request relative to nginx, less is better", "x", groups, shown)

    def write(self) -> Path:
        samples = ",\n".join(json.dumps(asdict(sample)) for sample in self.samples)
        machines = json.dumps(self.machines)
        data = f'{{"machines": {machines}, "samples": [\n{samples}\n]}}\n'
        return write_results(self.file, text=self.text(), data=data, picture=self.picture())


def describe() -> str:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    return (
        f"{machine.cpu_name()}, {os.cpu_count()} cores, Linux {platform.release()}; "
        f"Python {platform.python_version()} ({machine.python_build()}), "
        f"{versions}, {REQUIREMENT.replace('==', ' ')}, {_nginx()}, "
        f"Triton of nvidia-pytriton {importlib.metadata.version('nvidia-pytriton')}; commit {machine.commit()}"
    )


def _nginx() -> str:
    """`nginx 1.22.1`"""
    nginx = shutil.which("nginx")
    if nginx is None:
        raise FileNotFoundError("nginx is not installed: apt-get install nginx-light")
    found = subprocess.run([nginx, "-v"], capture_output=True, text=True, check=True)
    return found.stderr.strip().rpartition(" ")[2].replace("/", " ")
