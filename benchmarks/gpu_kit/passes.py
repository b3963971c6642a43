# SPDX-License-Identifier: Apache-2.0
"""Part `passes`: the time and memory of a pass of ControlNet and UNet by rows, size and memory layout."""

import statistics

from diffusion_engine.row_limits import knee

from benchmarks.engine.pass_times import row_times
from benchmarks.gpu_kit.bench import Bench
from benchmarks.gpu_kit.plan import Size

Times = dict[tuple[Size, int], float]  # size and rows → seconds
DIFFERENCE = 0.05


def measure(bench: Bench) -> None:
    last, contiguous = (measure_layout(bench, layout) for layout in ("channels_last", "contiguous"))
    ratios = [last[each] / seconds for each, seconds in contiguous.items() if each in last and each[1] > 1]
    if ratios:
        mean = statistics.geometric_mean(ratios)
        follows = "They are equal; keep channels_last."
        if mean > 1 + DIFFERENCE:
            follows = "Use contiguous tensors."
        elif mean < 1 - DIFFERENCE:
            follows = "Use channels_last."
        measured = (
            f"with channels_last, passes of two rows or more take {mean:.2f} times as long on average, "
            f"{min(ratios):.2f} to {max(ratios):.2f}"
        )
        bench.decide("Q1 memory layout", measured=measured, follows=follows)


def measure_layout(bench: Bench, layout: str) -> Times:
    networks = bench.networks(bench.pipeline(), is_channels_last=layout == "channels_last")
    times: Times = {}
    for size in bench.plan.sizes:
        of_size: dict[int, float] = {}
        for count in bench.plan.rows:
            if not bench.has_time(10 * max(of_size.values(), default=0.5)):
                return times
            bench.reset_peak()
            measured = row_times(networks, bench.capabilities, size, counts=(count,))
            if not measured:
                bench.note(f"{count} rows at {size[0]}x{size[1]} need more memory than this GPU has.")
                break
            of_size |= measured
            times[size, count] = seconds = measured[count]
            bench.row(
                layout=layout,
                size=f"{size[0]}x{size[1]}",
                rows=count,
                ms_a_pass=1000 * seconds,
                ms_a_row=1000 * seconds / count,
                throughput_against_2_rows=of_size[2] / 2 * count / seconds if 2 in of_size else None,
                peak_GiB=bench.peak_gib(),
            )
        if of_size:
            bench.note(f"{layout}, {size[0]}x{size[1]}: the engine would use at most {knee(of_size)} rows in a pass.")
    return times
