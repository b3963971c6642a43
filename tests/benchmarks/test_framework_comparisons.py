# SPDX-License-Identifier: Apache-2.0
"""The page about our own code and the libraries': saved CPU, and every comparison."""

from benchmarks.framework_internals.page import page
from benchmarks.framework_internals.rounds import CONCURRENCIES
from benchmarks.framework_internals.variants import COMPARISONS, Variant


def test_saved_cpu_is_share_of_librarys_cpu_in_same_round() -> None:
    times = {(variant, number): [100.0, 200.0, 400.0] for variant in Variant for number in CONCURRENCIES}
    for number in CONCURRENCIES:
        times[Variant.AIOHTTP, number] = [200.0, 400.0, 500.0]  # each is compared within its round
    instructions = dict.fromkeys(Variant, 1000.0) | {Variant.AIOHTTP: 4000.0}
    text = page(times, instructions, num_rounds=3)
    for each in COMPARISONS:
        (row,) = [line for line in text.splitlines() if line.startswith(f"| {each.part} |")]
        is_aiohttp = each.library is Variant.AIOHTTP
        assert ("| 50.0% (20.0% to 50.0%) |" if is_aiohttp else "| 0.0% (0.0% to 0.0%) |") in row
        assert ("| 75.0% |" if is_aiohttp else "| 0.0% |") in row
