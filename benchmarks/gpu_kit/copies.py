# SPDX-License-Identifier: Apache-2.0
"""Part `copies`: how long the CPU is held by the copy of one step's noise to a GPU that is busy."""

import time

import torch

from benchmarks.gpu_kit.bench import Bench

NOISE = (1, 4, 128, 128)
BUSY_CYCLES = 100_000_000  # of the GPU's clock: about 50 ms
NUM_REPEATS = 5


def measure(bench: Bench) -> None:
    if not bench.is_gpu:
        bench.skip("a CPU needs no copies.")
        return
    noise = torch.randn(NOISE, dtype=torch.float16)
    drawing = bench.milliseconds(lambda: torch.randn(NOISE, dtype=torch.float16))
    bench.row(what="drawing the noise, float16", ms=drawing)
    times = {
        "a copy": held_ms(noise, is_queued=False),
        "a queued copy": held_ms(noise, is_queued=True),
        "a queued copy from pinned memory": held_ms(noise.pin_memory(), is_queued=True),
    }
    for what, ms in times.items():
        bench.row(what=f"{what}, GPU busy for 50 ms", ms=ms)
    fastest = min(times, key=lambda each: times[each])
    measured = ", ".join(f"{what}: {ms:.2f} ms" for what, ms in times.items())
    bench.decide("Q13 noise", measured=measured, follows=f"If Q4 shows idle time, draw noise ahead and use {fastest}.")


def held_ms(tensor: torch.Tensor, *, is_queued: bool) -> float:
    """The shortest time of a call that copies a tensor while the GPU is busy."""
    times = []
    for _ in range(NUM_REPEATS):
        torch.cuda.synchronize()
        torch.cuda._sleep(BUSY_CYCLES)  # type: ignore[no-untyped-call]
        started = time.perf_counter()
        tensor.to("cuda", non_blocking=is_queued)
        times.append(1000 * (time.perf_counter() - started))
    torch.cuda.synchronize()
    return min(times)
