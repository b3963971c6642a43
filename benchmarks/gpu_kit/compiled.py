# SPDX-License-Identifier: Apache-2.0
"""Part `compiled`: the time of a pass with compiled transformer blocks, and how often and how long torch compiles.

`as the engine` compiles code for any number of rows, `for each row count` compiles again for each of them.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusion_engine.networks import Networks
from torch._dynamo.utils import counters

from benchmarks.engine.pass_times import row_times
from benchmarks.gpu_kit.bench import Bench
from benchmarks.gpu_kit.plan import Size

Times = dict[tuple[Size, int], float]  # size and rows → seconds
GAIN = 0.9


def measure(bench: Bench) -> None:
    logging.getLogger("torch._dynamo").setLevel(logging.ERROR)
    counts = [count for count in bench.plan.rows if count > 1]
    counts.insert(1, 3)  # a row count that is not a power of two
    eager = eager_times(bench, counts)
    ratios: list[float] = []
    for layout in ("channels_last", "contiguous"):
        times = compiled_times(bench, layout, counts, eager)
        if layout == "channels_last":
            ratios += [seconds / eager[each] for each, seconds in times.items() if each in eager]
    with nothing_compiled():
        networks = compiled_for_each_count(bench)
        for count in (2, max(counts)):
            measure_count(bench, networks, "for each row count, channels_last", bench.plan.sizes[0], count, eager)
    if ratios:
        measured = f"compiled passes take {min(ratios):.2f} to {max(ratios):.2f} times as long as eager ones"
        follows = "`compile` pays." if max(ratios) < GAIN else "Leave `compile` off by default."
        bench.decide("Q2 compile", measured=measured, follows=follows)


@contextmanager
def nothing_compiled() -> Iterator[None]:
    """Forget compiled code, in this process and in the caches on disk."""
    from torch._inductor.utils import fresh_cache

    torch.compiler.reset()
    with fresh_cache():
        yield


def compiled_times(bench: Bench, layout: str, counts: list[int], eager: Times) -> Times:
    times: Times = {}
    with nothing_compiled():
        networks = bench.networks(bench.pipeline(), is_channels_last=layout == "channels_last", is_compiled=True)
        for size in bench.plan.sizes:
            for count in counts:
                seconds = measure_count(bench, networks, f"as the engine, {layout}", size, count, eager)
                if seconds is None:
                    break
                times[size, count] = seconds
    return times


def eager_times(bench: Bench, counts: list[int]) -> Times:
    networks = bench.networks(bench.pipeline())
    times: Times = {}
    for size in bench.plan.sizes:
        found = row_times(networks, bench.capabilities, size, counts=counts)
        times |= {(size, count): seconds for count, seconds in found.items()}
    return times


def compiled_for_each_count(bench: Bench) -> Networks:
    pipeline = bench.pipeline()
    networks = bench.networks(pipeline)
    repeated = set(pipeline.unet._repeated_blocks)
    for network in (pipeline.unet, pipeline.controlnet):
        for block in network.modules():
            if type(block).__name__ in repeated:
                block.compile(fullgraph=True, dynamic=False)
    return networks


def measure_count(bench: Bench, networks: Networks, code: str, size: Size, count: int, eager: Times) -> float | None:
    """Add a row. Returns the time of a pass; None if the time was too short, or the memory too small."""
    if not bench.has_time(1 if bench.plan.is_tiny else 15):
        return None
    counters.clear()
    bench.reset_peak()
    times: dict[int, float] = {}
    taken = bench.seconds(lambda: times.update(row_times(networks, bench.capabilities, size, counts=(count,))))
    if not times:
        bench.note(f"{count} rows at {size[0]}x{size[1]} need more memory than this GPU has.")
        return None
    seconds = times[count]
    bench.row(
        code=code,
        size=f"{size[0]}x{size[1]}",
        rows=count,
        ms_a_pass=1000 * seconds,
        against_eager=seconds / eager[size, count] if (size, count) in eager else None,
        graphs_compiled=counters["stats"]["unique_graphs"],
        graph_breaks=sum(counters["graph_break"].values()),
        seconds_until_fast=max(0.0, taken - 3 * seconds),
        peak_GiB=bench.peak_gib(),
    )
    return seconds
