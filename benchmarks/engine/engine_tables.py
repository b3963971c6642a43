# SPDX-License-Identifier: Apache-2.0
"""Markdown tables of the engine's results: medians over the repeats, and ratios on the same trace with their spread."""

import statistics
from collections.abc import Callable, Sequence

from benchmarks.common.ratio import Ratio
from benchmarks.engine.engine_profiler import DENOISING, VAE, EngineProfile
from benchmarks.engine.outcome import Figures
from benchmarks.engine.workloads import Result, Workload

Pick = Callable[[Figures], float]
COLUMNS = ("throughput", "latency_mean", "latency_p50", "latency_p95", "latency_p99", "first_preview_mean")


def of(results: Sequence[Result], workload: str, peer: str) -> list[Result]:
    return sorted(
        (each for each in results if (each.workload, each.peer) == (workload, peer)), key=lambda each: each.repeat
    )


def ratio(ours: Sequence[Result], theirs: Sequence[Result], pick: Pick) -> Ratio:
    by_repeat = {each.repeat: pick(each.figures) for each in theirs}
    ratios = [pick(each.figures) / by_repeat[each.repeat] for each in ours if by_repeat.get(each.repeat)]
    return Ratio.of(ratios)


def workload_table(results: Sequence[Result], workload: Workload, peers: Sequence[str]) -> list[str]:
    """The figures of a workload, in seconds at the reference pace."""
    lines = [
        "| | pictures/s | mean | p50 | p95 | p99 | first preview | wasted steps per disconnect: mean, most |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for peer in peers:
        own = of(results, workload.name, peer)
        if not own:
            continue
        values = [f"{statistics.median(getattr(each.figures, name) for each in own):.2f}" for name in COLUMNS]
        lines.append(f"| {peer} | {' | '.join(values)} | {wasted_by(own) if len(workload.step_counts) > 1 else ''} |")
    return lines


def wasted_by(results: Sequence[Result]) -> str:
    """The mean and the highest number of wasted steps; empty if they are unknown."""
    means = [each.figures.wasted_steps for each in results if each.figures.wasted_steps is not None]
    mosts = [each.figures.wasted_steps_most for each in results if each.figures.wasted_steps_most is not None]
    return f"{statistics.fmean(means):.1f}, {max(mosts)}" if means and mosts else ""


RATIOS: tuple[tuple[str, Pick], ...] = (
    ("throughput", lambda each: each.throughput),
    ("mean latency", lambda each: each.latency_mean),
    ("p99 latency", lambda each: each.latency_p99),
    ("first preview", lambda each: each.first_preview_mean),
)


def ratio_table(
    results: Sequence[Result], workloads: Sequence[Workload], ours: str, theirs: Sequence[str]
) -> list[str]:
    """One engine relative to every peer: median (lowest to highest) over the repeats."""
    lines = [
        "| " + " | ".join(["", "", *(f"relative to {peer}" for peer in theirs)]) + " |",
        "| --- | --- |" + " --- |" * len(theirs),
    ]
    for workload in workloads:
        own = of(results, workload.name, ours)
        for name, pick in RATIOS:
            if not own or (name != "throughput" and workload.load is None):
                continue
            compared = [str(ratio(own, of(results, workload.name, peer), pick)) for peer in theirs]
            lines.append(f"| {workload.name} | {name} | {' | '.join(compared)} |")
    return lines


def profile_table(results: Sequence[Result], workloads: Sequence[Workload], peer: str) -> list[str]:
    """Time of the engine's thread by network, in workloads whose requests arrive all at once."""
    lines = [
        "| | UNet, ControlNet | text encoders | control embedding | VAE | other | other, in steps with all rows |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for workload in workloads:
        profiles = [each.profile for each in of(results, workload.name, peer) if each.profile is not None]
        if workload.load is not None or not profiles:
            continue
        parts = [
            part_of(profiles, DENOISING),
            part_of(profiles, "text encoder", "text encoder 2"),
            part_of(profiles, "control embedding"),
            part_of(profiles, VAE),
        ]
        parts += [1 - sum(parts), statistics.median(each.overhead for each in profiles)]
        lines.append(f"| {workload.name} | {' | '.join(f'{100 * part:.1f}%' for part in parts)} |")
    return lines


def part_of(profiles: Sequence[EngineProfile], *networks: str) -> float:
    """The share of these networks in the time of all steps."""
    total = sum(each.in_steps for each in profiles)
    return sum(each.by_network.get(name, 0.0) for each in profiles for name in networks) / total
