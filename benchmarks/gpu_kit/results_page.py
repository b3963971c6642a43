# SPDX-License-Identifier: Apache-2.0
"""The results as a Markdown page, and a chart of the throughput of passes. Imports no torch."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.common.bar_chart import bar_chart
from benchmarks.common.ratio import Ratio
from benchmarks.gpu_kit.results import PartResult, Results

GAIN = "throughput against 2 rows"


def page(results: Results, *, chart: str = "") -> str:
    """The page.

    Args:
        chart: the name of the chart's file; empty if there is none.
    """
    title = "The engine on a GPU" if not results.is_tiny else "Test of the GPU kit on a CPU, with tiny networks"
    lines = [f"# {title}", "", f"{results.machine.describe()}; commit {results.commit}. `{results.command}`", ""]
    lines += [
        f"Started {results.started}, {results.seconds:.0f} s. Parts that name no checkpoint have random weights.",
        "",
    ]
    lines += ["| part | result | seconds |", "| --- | --- | ---: |"]
    lines += [f"| [{each.title}](#{each.name}) | {outcome(each)} | {each.seconds:.0f} |" for each in results.parts]
    if decisions := [row for each in results.parts for row in each.decisions]:
        lines += ["", "## Decisions", "", "The questions are those of `benchmarks/gpu_kit/questions.md`.", ""]
        lines += ["A CPU with tiny networks decides nothing: this only shows the table.", ""] if results.is_tiny else []
        lines += table(decisions)
    for each in results.parts:
        lines += ["", *section(each)]
        if each.name == "passes" and chart:
            lines += ["", f"![Throughput of passes by rows]({chart})"]
    return "\n".join(lines) + "\n"


def outcome(part: PartResult) -> str:
    return f"{part.status}: {part.reason}" if part.reason else part.status


def section(part: PartResult) -> list[str]:
    lines = [f'<a id="{part.name}"></a>', "", f"## {part.title}", "", part.decides]
    if part.status not in ("done", "running"):
        lines += ["", f"**{outcome(part)}**"]
    if part.rows:
        lines += ["", *table(part.rows)]
    if part.notes:
        lines += ["", *(f"- {note}" for note in part.notes)]
    return lines


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    names = [name for name in names if any(row.get(name) is not None for row in rows)]
    is_text = {name: any(isinstance(row.get(name), str) for row in rows) for name in names}
    lines = ["| " + " | ".join(names) + " |"]
    lines.append("| " + " | ".join("---" if is_text[name] else "---:" for name in names) + " |")
    return lines + ["| " + " | ".join(cell(row.get(name)) for name in names) + " |" for row in rows]


def cell(value: Any) -> str:
    """A cell with three digits that count."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value)


def chart(results: Results) -> str:
    """Throughput by rows, relative to one guided request, as SVG; empty before the first pass was measured."""
    rows = [row for part in results.parts if part.name == "passes" for row in part.rows if row.get(GAIN)]
    first_layout = [row for row in rows if row["layout"] == rows[0]["layout"]]
    groups: dict[str, dict[str, Ratio]] = {}
    for row in first_layout:
        groups.setdefault(row["size"], {})[f"{row['rows']} rows"] = Ratio.of([row[GAIN]])
    counts = list(dict.fromkeys(name for bars in groups.values() for name in bars))
    return bar_chart("Rows a second, relative to passes of 2 rows", "x", groups, counts) if groups else ""
