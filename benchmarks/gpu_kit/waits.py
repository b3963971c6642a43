# SPDX-License-Identifier: Apache-2.0
"""Part `waits`: how often the engine's thread waits for the GPU between the start of a pass and the end of its step."""

import warnings
from collections.abc import Callable

import torch

from benchmarks.gpu_kit.bench import Bench

NUM_REQUESTS = 2
WARNING = "called a synchronizing CUDA operation"
# Schedulers that add noise, which diffusers copies from the CPU: one wait for each request.
EXPECTED = {"euler": 0, "dpmpp_2m_karras": 0, "euler_ancestral": 1, "lcm": 1}


def measure(bench: Bench) -> None:
    engine = bench.engine(max_rows=2 * NUM_REQUESTS)
    found = {}
    for scheduler in EXPECTED:
        states = bench.states(engine, bench.plan.sizes[0], NUM_REQUESTS, scheduler=scheduler)

        def step(states: list = states) -> None:  # type: ignore[type-arg]
            for state, noise in zip(states, engine.denoiser.predict(states), strict=True):
                engine.noise_scheduler.advance(state, noise)

        step()  # the first pass of a batch gathers its tensors
        found[scheduler] = num_waits(bench, step) / NUM_REQUESTS
        bench.row(scheduler=scheduler, waits_a_request_and_step=found[scheduler], expected=EXPECTED[scheduler])
    if not bench.is_gpu:
        bench.note("On a CPU nothing can wait.")
        return
    follows = "As expected." if found == EXPECTED else "Find the waits: `torch.cuda.set_sync_debug_mode`."
    measured = ", ".join(f"{name} {count:g}" for name, count in found.items())
    bench.decide("Q12 waits", measured=f"waits for each request and step: {measured}", follows=follows)


def num_waits(bench: Bench, work: Callable[[], object]) -> int:
    """How often some work waits for the GPU."""
    if not bench.is_gpu:
        work()
        return 0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            work()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum(WARNING in str(each.message) for each in caught)
