# SPDX-License-Identifier: Apache-2.0
"""The results page of the comparisons."""

import importlib.metadata
import os
import platform
import statistics
from collections.abc import Mapping, Sequence

from benchmarks.common import machine
from benchmarks.framework_internals.rounds import CONCURRENCIES, CpuTimes
from benchmarks.framework_internals.variants import COMPARISONS, THRESHOLD, Variant

_PACKAGES = ("fastapi", "starlette", "uvicorn", "uvloop", "httptools", "prometheus-client", "aiohttp")
_HOW = f"""\
This page compares the CPU time of servers for a request of 16 KB to a declared endpoint. The stand-in for Triton takes
hardly any. Every round measures all servers in random order. **Saved** is the share of CPU time that our code saves,
1 - ours / the library's, as the median over the rounds with the quartiles. Code that copies or bypasses a framework
stays only if it saves at least {THRESHOLD:.0%}."""


def page(times: CpuTimes, instructions: Mapping[Variant, float], *, num_rounds: int) -> str:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)
    load = " and ".join(f"{number} at once" for number in CONCURRENCIES)
    return "\n".join(
        [
            "# CPU saved by our own code instead of a framework's",
            "",
            f"{machine.cpu_name()}, {os.cpu_count()} cores; Python {platform.python_version()} "
            f"({machine.python_build()}), {versions}; commit {machine.commit()}.",
            "`python -m benchmarks.framework_internals`",
            "",
            _HOW,
            "",
            f"{num_rounds} rounds, {load}; the machine's load average afterwards was {os.getloadavg()[2]:.1f}.",
            "",
            *_comparisons(times, instructions),
            "",
            "## Servers",
            "",
            *_servers(times, instructions),
            "",
        ]
    )


def _comparisons(times: CpuTimes, instructions: Mapping[Variant, float]) -> list[str]:
    columns = ["part", *(f"saved, {number} at once" for number in CONCURRENCIES)]
    rows = []
    for each in COMPARISONS:
        cells = [each.part, *(_saved(times[each.own, n], times[each.library, n]) for n in CONCURRENCIES)]
        if instructions:
            cells.append(f"{1 - instructions[each.own] / instructions[each.library]:.1%}")
        rows.append([*cells, each.decision])
    return _table([*columns, *(["saved instructions"] if instructions else []), "decision"], rows)


def _saved(own: Sequence[float], library: Sequence[float]) -> str:
    shares = [1 - ours / theirs for ours, theirs in zip(own, library, strict=True)]
    lower, median, upper = statistics.quantiles(shares, n=4)
    return f"{median:.1%} ({lower:.1%} to {upper:.1%})"


def _servers(times: CpuTimes, instructions: Mapping[Variant, float]) -> list[str]:
    columns = ["", *(f"{kind} µs, {number} at once" for number in CONCURRENCIES for kind in ("lowest", "median"))]
    rows = []
    for variant in Variant:
        cells: list[str] = [variant]
        for number in CONCURRENCIES:
            measured = times[variant, number]
            cells += [f"{min(measured):.1f}", f"{statistics.median(measured):.1f}"]
        rows.append([*cells, *([f"{instructions[variant]:,.0f}"] if instructions else [])])
    return _table([*columns, *(["instructions"] if instructions else [])], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
