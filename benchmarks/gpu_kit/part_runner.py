# SPDX-License-Identifier: Apache-2.0
"""Runs the parts one after another within the time budget, and writes the results after every row. Imports no torch."""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from benchmarks.gpu_kit import results_page
from benchmarks.gpu_kit.part import Part
from benchmarks.gpu_kit.part_process import PartProcesses
from benchmarks.gpu_kit.plan import Plan
from benchmarks.gpu_kit.results import PartResult, Results, write

# With less time left, a part would only load its networks.
LEAST_SECONDS = 10.0
# In the first part: the import of PyTorch and diffusers.
START_SECONDS = 60.0
# The limits are for a GPU. A CPU may be busy with other tests.
TINY_FACTOR = 10


class PartRunner:
    """Runs parts.

    Args:
        page: the file of the results page. Its data and its chart have the same name.
        ends_at: a time of `time.monotonic()`. No part runs longer.
    """

    def __init__(self, results: Results, page: Path, plan: Plan, *, ends_at: float, say: Callable[[str], None]) -> None:
        self._results = results
        self._page = page
        self._plan = plan
        self._began = time.monotonic()
        self._ends_at = ends_at
        self._say = say
        self._processes = PartProcesses(plan, ends_at=ends_at)

    def run(self, parts: Sequence[Part]) -> None:
        is_first = True
        for part, result in zip(parts, self._results.parts, strict=True):
            reason = self._why_not(part)
            if reason:
                result.take("skipped", reason)
            else:
                self._run(part, result, extra=START_SECONDS if is_first else 0.0)
                is_first = False
            self._write()
            self._say(f"{part.name}: {results_page.outcome(result)} ({result.seconds:.0f} s)")

    def _why_not(self, part: Part) -> str:
        machine, left = self._results.machine, self._ends_at - time.monotonic()
        if not self._plan.is_tiny and machine.free_gib < part.memory_gib:
            return f"needs {part.memory_gib:g} GiB of free GPU memory; {machine.gpu} has {machine.free_gib:.1f} GiB."
        return f"{left:.0f} s were left, too few." if left < LEAST_SECONDS else ""

    def _run(self, part: Part, result: PartResult, *, extra: float) -> None:
        started = time.monotonic()
        result.status = "running"
        self._write()
        limit = (part.seconds + extra) * (TINY_FACTOR if self._plan.is_tiny else 1)
        with closing(self._processes.run(part, seconds=limit)) as messages:
            for kind, content in messages:
                result.take(kind, content)
                result.seconds = time.monotonic() - started
                self._write()

    def _write(self) -> None:
        self._results.seconds = time.monotonic() - self._began
        chart_file = self._page.with_suffix(".svg")
        chart = results_page.chart(self._results)
        if chart:
            write(chart_file, chart)
        write(self._page, results_page.page(self._results, chart=chart_file.name if chart else ""))
        write(self._page.with_suffix(".json"), self._results.to_json())
