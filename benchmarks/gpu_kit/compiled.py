# SPDX-License-Identifier: Apache-2.0
"""Part `compiled`: the time of a pass with compiled transformer blocks, and how often and how long torch compiles."""

import logging

import torch
from diffusion_engine.networks import Networks
from torch._dynamo.utils import counters

from benchmarks.engine.pass_times import row_times
from benchmarks.gpu_kit.bench import Bench
from benchmarks.gpu_kit.plan import Size


def measure(bench: Bench) -> None:
    logging.getLogger("torch._dynamo").setLevel(logging.ERROR)
    for is_channels_last in (True, False):
        torch.compiler.reset()
        networks = bench.networks(bench.pipeline(), is_channels_last=is_channels_last, is_compiled=True)
        layout = "channels_last" if is_channels_last else "contiguous"
        for size in bench.plan.sizes:
            for count in [each for each in bench.plan.rows if each > 1]:
                if not bench.has_time(1 if bench.plan.is_tiny else 20):
                    return
                if not measure_count(bench, networks, layout, size, count):
                    break


def measure_count(bench: Bench, networks: Networks, layout: str, size: Size, count: int) -> bool:
    """Returns False if the rows need too much memory."""
    counters.clear()
    bench.reset_peak()
    times: dict[int, float] = {}
    taken = bench.seconds(lambda: times.update(row_times(networks, bench.capabilities, size, counts=(count,))))
    if not times:
        bench.note(f"{count} rows at {size[0]}x{size[1]} need more memory than this GPU has.")
        return False
    bench.row(
        layout=layout,
        size=f"{size[0]}x{size[1]}",
        rows=count,
        ms_a_pass=1000 * times[count],
        ms_a_row=1000 * times[count] / count,
        graphs_compiled=counters["stats"]["unique_graphs"],
        graph_breaks=sum(counters["graph_break"].values()),
        seconds_until_fast=max(0.0, taken - 3 * times[count]),
        peak_GiB=bench.peak_gib(),
    )
    return True
