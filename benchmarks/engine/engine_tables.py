# SPDX-License-Identifier: Apache-2.0
"""Results → tables: medians over the repeats, and ratios of what ran on the same trace, with their spread."""

import statistics
from collections.abc import Callable, Sequence

from benchmarks.common.ratio import Ratio
from benchmarks.engine.engine_profiler import DENOISING, VAE, Account
from benchmarks.engine.outcome import Figures
from benchmarks.engine.workloads import Cell, Result

Pick = Callable[[Figures], float]
COLUMNS = ("throughput", "latency_mean", "latency_p50", "latency_p95", "latency_p99", "first_preview_mean")


def of(results: Sequence[Result], cell: str, peer: str) -> list[Result]:
    return sorted((each for each in results if (each.cell, each.peer) == (cell, peer)), key=lambda each: each.repeat)


def ratio(ours: Sequence[Result], theirs: Sequence[Result], pick: Pick) -> Ratio:
    by_repeat = {each.repeat: pick(each.figures) for each in theirs}
    ratios = [pick(each.figures) / by_repeat[each.repeat] for each in ours if by_repeat.get(each.repeat)]
    return Ratio.of(ratios)


def cell_table(results: Sequence[Result], cell: Cell, peers: Sequence[str]) -> list[str]:
    """The figures themselves, in seconds of the reference pace."""
    lines = [
        "| | pictures/s | mean | p50 | p95 | p99 | first preview | steps wasted a leaver: mean, most |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for peer in peers:
        own = of(results, cell.name, peer)
        if not own:
            continue
        values = [f"{statistics.median(getattr(each.figures, name) for each in own):.2f}" for name in COLUMNS]
        lines.append(f"| {peer} | {' | '.join(values)} | {wasted_by(own) if len(cell.step_counts) > 1 else ''} |")
    return lines


def wasted_by(results: Sequence[Result]) -> str:
    """The mean and the most; nothing where it is not known."""
    means = [each.figures.wasted_steps for each in results if each.figures.wasted_steps is not None]
    mosts = [each.figures.wasted_steps_most for each in results if each.figures.wasted_steps_most is not None]
    return f"{statistics.fmean(means):.1f}, {max(mosts)}" if means and mosts else ""


RATIOS: tuple[tuple[str, Pick], ...] = (
    ("throughput", lambda each: each.throughput),
    ("mean latency", lambda each: each.latency_mean),
    ("p99 latency", lambda each: each.latency_p99),
    ("first preview", lambda each: each.first_preview_mean),
)


def ratio_table(results: Sequence[Result], cells: Sequence[Cell], ours: str, theirs: Sequence[str]) -> list[str]:
    """One engine against every peer: median (least to most) over the repeats."""
    lines = [
        "| " + " | ".join(["", "", *(f"of {peer}" for peer in theirs)]) + " |",
        "| --- | --- |" + " --- |" * len(theirs),
    ]
    for cell in cells:
        own = of(results, cell.name, ours)
        for name, pick in RATIOS:
            if name != "throughput" and cell.load is None:
                continue
            compared = [str(ratio(own, of(results, cell.name, peer), pick)) for peer in theirs]
            lines.append(f"| {cell.name} | {name} | {' | '.join(compared)} |")
    return lines


def account_table(results: Sequence[Result], cells: Sequence[Cell], peer: str) -> list[str]:
    """Where the engine's thread spent its time when everybody came at once."""
    lines = [
        "| | UNet, ControlNet | text encoders | control embedding | VAE | the rest | the rest of steps with all rows |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for cell in cells:
        accounts = [each.account for each in of(results, cell.name, peer) if each.account is not None]
        if cell.load is not None or not accounts:
            continue
        parts = [
            part_of(accounts, DENOISING),
            part_of(accounts, "text encoder", "text encoder 2"),
            part_of(accounts, "control embedding"),
            part_of(accounts, VAE),
        ]
        parts += [1 - sum(parts), statistics.median(each.overhead for each in accounts)]
        lines.append(f"| {cell.name} | {' | '.join(f'{100 * part:.1f}%' for part in parts)} |")
    return lines


def part_of(accounts: Sequence[Account], *networks: str) -> float:
    """Of all the time in steps, the part that was spent in these networks."""
    total = sum(each.in_steps for each in accounts)
    return sum(each.by_network.get(name, 0.0) for each in accounts for name in networks) / total
