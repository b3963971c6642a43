# SPDX-License-Identifier: Apache-2.0
"""Part `passes`: the time and memory of a pass of ControlNet and UNet by rows, size and memory layout."""

from diffusion_engine.networks import Networks
from diffusion_engine.row_limits import knee

from benchmarks.engine.pass_times import row_times
from benchmarks.gpu_kit.bench import Bench


def measure(bench: Bench) -> None:
    for is_channels_last in (True, False):
        networks = bench.networks(bench.pipeline(), is_channels_last=is_channels_last)
        layout = "channels_last" if is_channels_last else "contiguous"
        if not measure_sizes(bench, networks, layout=layout):
            return


def measure_sizes(bench: Bench, networks: Networks, *, layout: str) -> bool:
    """Returns False if the time was too short."""
    for size in bench.plan.sizes:
        times: dict[int, float] = {}
        for count in bench.plan.rows:
            expected = 5 * 2 * max(times.values(), default=0.5)
            if not bench.has_time(expected):
                return False
            bench.reset_peak()
            measured = row_times(networks, bench.capabilities, size, counts=(count,))
            if not measured:
                bench.note(f"{count} rows at {size[0]}x{size[1]} need more memory than this GPU has.")
                break
            times |= measured
            bench.row(
                layout=layout,
                size=f"{size[0]}x{size[1]}",
                rows=count,
                ms_a_pass=1000 * times[count],
                ms_a_row=1000 * times[count] / count,
                throughput_against_2_rows=times[2] / 2 * count / times[count] if 2 in times else None,
                peak_GiB=bench.peak_gib(),
            )
        if times:
            bench.note(f"{layout}, {size[0]}x{size[1]}: the engine would use at most {knee(times)} rows in a pass.")
    return True
