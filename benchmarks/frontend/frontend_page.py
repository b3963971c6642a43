# SPDX-License-Identifier: Apache-2.0
"""Samples → a page, its data, and a picture."""

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
from benchmarks.frontend.frontend_tables import cell_table, cpu, ratio, target_table
from benchmarks.frontend.litserve_environment import REQUIREMENT
from benchmarks.frontend.peers import DIRECT, LAYERS, NGINX, WAYS
from benchmarks.frontend.sample import Cell, Sample

PACKAGES = ("fastapi", "starlette", "uvicorn", "uvloop", "httptools", "pydantic", "tritonclient", "aiohttp")
HOW_IT_IS_MEASURED = """\
Every round visits every cell, and in it every way once, in random order. CPU is of the whole process tree, by the
kernel's own clock of each process, per answered request, in a closed loop on kept connections after a warm-up; the
callers and Triton share the cores, so requests per second and p50 with many callers are limits of the machine: CPU and
ratios are what to look at. The model answers the picture that it is given. The first answer of every measurement is
compared byte by byte, the others by status and length; one wrong answer ends the run."""


@dataclass(slots=True)
class Page:
    """Everything that was measured, in the files of one name."""

    file: Path
    samples: list[Sample]
    machines: list[str]

    @classmethod
    def open(cls, folder: Path, name: str, *, is_new: bool) -> Self:
        """A page of this name; with what its data holds, if that is wanted."""
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
        ways = [way for way in (*WAYS, *LAYERS) if any(sample.way == way.name for sample in self.samples)]
        lines = [
            "# What the frontend costs",
            "",
            *(f"{each}." for each in self.machines),
            "`make bench-frontend`",
            "",
            HOW_IT_IS_MEASURED,
            "",
            *(f"- **{way.name}**: {way.about}" for way in ways),
            "",
            f"{self.num_rounds} rounds. Ratios are medians of the rounds' own, with the least and the most.",
            "",
            f"![bars]({self.file.stem}.svg)",
            "",
            "## What is to be reached",
            "",
            *target_table(self.samples),
        ]
        for cell in self.cells():
            lines += ["", f"## {cell.name}", "", *cell_table(self.samples, cell, [way.name for way in ways])]
        return "\n".join(lines) + "\n"

    def cells(self) -> Sequence[Cell]:
        return list(dict.fromkeys(sample.cell for sample in self.samples))

    def picture(self) -> str:
        names = [way.name for way in (*WAYS, *LAYERS) if way.name not in (DIRECT, NGINX)]
        ratios = {
            cell.name: {name: ratio(self.samples, cell, name, NGINX, cpu) for name in names} for cell in self.cells()
        }
        groups = {
            cell: {name: each for name, each in bars.items() if each.median == each.median}
            for cell, bars in ratios.items()
        }
        shown = [name for name in names if any(name in bars for bars in groups.values())]
        return bar_chart("CPU per request relative to nginx passing through, less is better", "x", groups, shown)

    def write(self) -> Path:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(self.text())
        samples = ",\n".join(json.dumps(asdict(sample)) for sample in self.samples)
        machines = json.dumps(self.machines)
        self.file.with_suffix(".json").write_text(f'{{"machines": {machines}, "samples": [\n{samples}\n]}}\n')
        self.file.with_suffix(".svg").write_text(self.picture())
        return self.file


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
        raise FileNotFoundError("There is no nginx: apt-get install nginx-light")
    found = subprocess.run([nginx, "-v"], capture_output=True, text=True, check=True)
    return found.stderr.strip().rpartition(" ")[2].replace("/", " ")
