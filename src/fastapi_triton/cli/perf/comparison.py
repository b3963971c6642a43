# SPDX-License-Identifier: Apache-2.0
"""Writes the results: a table, a JSON file, a plot. Compares Triton alone with the frontend where both are measured."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import orjson
from rich.table import Table

from fastapi_triton.cli.perf.tool import Measurement, PerfError

_LATENCIES = ("p50_ms", "p95_ms", "p99_ms")
_FIGURES = ("inferences_per_s", *_LATENCIES)
HOW_TO_PLOT = "The plot needs matplotlib: pip install 'fastapi-triton[perf]'."


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, minimum and maximum of the rounds."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(statistics.median(values), min(values), max(values))

    def text(self, formatted: Callable[[float], str]) -> str:
        """`12.3`, and below it `11.9..12.8` where there is more than one value."""
        if self.least == self.most:
            return formatted(self.median)
        return f"{formatted(self.median)}\n{formatted(self.least)}..{formatted(self.most)}"


@dataclass(slots=True)
class Level:
    """All rounds at one concurrency, in order: each round measures Triton, then the frontend.

    `triton` is empty for an endpoint, which Triton itself does not have.
    """

    concurrency: int
    triton: list[Measurement] = field(default_factory=list)
    frontend: list[Measurement] = field(default_factory=list)


def table(model: str, levels: Sequence[Level]) -> Table:
    """The printed table: medians of the rounds, and the cost of the frontend with its spread."""
    made = Table(title=f"{model}: the cost of the frontend")
    for name in ("at once", "", "inferences/s", "p50 ms", "p95 ms", "p99 ms"):
        made.add_column(name, justify="left" if name == "" else "right")
    for level in levels:
        made.add_row(str(level.concurrency), "Triton", *_medians(level.triton))
        made.add_row("", "frontend", *_medians(level.frontend))
        made.add_row("", "cost", *_costs(level), end_section=True)
    return made


def endpoint_table(path: str, levels: Sequence[Level]) -> Table:
    """The printed table of one endpoint: medians of the rounds with their spread."""
    made = Table(title=path)
    for name in ("at once", "requests/s", "p50 ms", "p95 ms", "p99 ms"):
        made.add_column(name, justify="right")
    for level in levels:
        spreads = [Spread.of([getattr(each, name) for each in level.frontend]) for name in _FIGURES]
        made.add_row(str(level.concurrency), *(spread.text(_number) for spread in spreads), end_section=True)
    return made


def _medians(measured: Sequence[Measurement]) -> list[str]:
    return [
        _number(statistics.median(each.inferences_per_s for each in measured)),
        *(_number(statistics.median(getattr(each, name) for each in measured)) for name in _LATENCIES),
    ]


def _costs(level: Level) -> list[str]:
    rounds = list(zip(level.triton, level.frontend, strict=True))
    throughput = Spread.of([frontend.inferences_per_s / triton.inferences_per_s - 1 for triton, frontend in rounds])
    added = [
        Spread.of([getattr(frontend, name) - getattr(triton, name) for triton, frontend in rounds])
        for name in _LATENCIES
    ]
    return [throughput.text("{:+.0%}".format), *(spread.text(lambda ms: _number(ms, sign="+")) for spread in added)]


def _number(value: float, *, sign: str = "") -> str:
    """About three significant digits, so that the table fits a terminal."""
    return format(value, f"{sign}.{2 if abs(value) < 10 else 1 if abs(value) < 100 else 0}f")


def write_json(path: Path, model: str, levels: Sequence[Level]) -> None:
    """Every measurement of every round."""
    path.write_bytes(
        orjson.dumps({"model": model, "levels": [asdict(level) for level in levels]}, option=orjson.OPT_INDENT_2)
    )


def plot(path: Path, model: str, levels: Sequence[Level]) -> None:
    """Throughput and p50 latency over concurrency, with whiskers from the lowest to the highest round.

    Raises:
        PerfError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise PerfError(HOW_TO_PLOT) from None
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots(1, 2)
    concurrencies = [level.concurrency for level in levels]
    for axis, name, title in (
        (axes[0], "inferences_per_s", "inferences per second"),
        (axes[1], "p50_ms", "p50 latency, ms"),
    ):
        for way, label, colour in (("triton", "Triton", "#8d99ae"), ("frontend", "through the frontend", "#e07a5f")):
            if not all(getattr(level, way) for level in levels):
                continue
            spreads = [Spread.of([getattr(each, name) for each in getattr(level, way)]) for level in levels]
            axis.errorbar(
                concurrencies,
                [spread.median for spread in spreads],
                ([each.median - each.least for each in spreads], [each.most - each.median for each in spreads]),
                label=label,
                color=colour,
                marker="o",
                capsize=3,
            )
        axis.set(title=title, xlabel="requests at once", ylim=(0, None), xticks=concurrencies)
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.suptitle(model)
    figure.savefig(path)
