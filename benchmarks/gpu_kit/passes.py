# SPDX-License-Identifier: Apache-2.0
"""Part `passes`: the time and memory of a pass of ControlNet and UNet by rows, size and memory layout."""

from diffusion_engine.networks import Networks
from diffusion_engine.row_limits import knee

from benchmarks.engine.pass_times import row_times
from benchmarks.gpu_kit.bench import Bench
from benchmarks.gpu_kit.plan import Size

Times = dict[tuple[Size, int], float]  # size and rows → seconds
FASTER = 0.95


def measure(bench: Bench) -> None:
    by_layout: list[Times] = []
    for layout in ("channels_last", "contiguous"):
        networks = bench.networks(bench.pipeline(), is_channels_last=layout == "channels_last")
        by_layout.append(measure_sizes(bench, networks, layout=layout))
    last, contiguous = by_layout
    ratios = [last[each] / seconds for each, seconds in contiguous.items() if each in last]
    if ratios:
        follows = "Use contiguous tensors." if min(ratios) > 1 / FASTER else "Use channels_last."
        if min(ratios) > FASTER and max(ratios) < 1 / FASTER:
            follows = "They are equal; keep channels_last."
        measured = f"with channels_last, passes take {min(ratios):.2f} to {max(ratios):.2f} times as long"
        bench.decide("Q1 memory layout", measured=measured, follows=follows)


def measure_sizes(bench: Bench, networks: Networks, *, layout: str) -> Times:
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
