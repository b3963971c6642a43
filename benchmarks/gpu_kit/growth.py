# SPDX-License-Identifier: Apache-2.0
"""Part `growth`: GPU memory over many requests of several sizes and step counts, with and without growing segments."""

import random

import torch
from diffusion_engine.engine import Engine

from benchmarks.gpu_kit.bench import GIB, Bench

NUM_REQUESTS = 60
AT_ONCE = 4
GROWTH = 1.1


def measure(bench: Bench) -> None:
    engine = bench.engine(max_rows=2 * AT_ONCE)
    reserved: dict[str, list[float]] = {}
    last: dict[str, dict[str, float | int | None]] = {}
    for setting in ("True", "False"):
        if bench.is_gpu:
            torch.cuda.empty_cache()
            torch.cuda.memory._set_allocator_settings(f"expandable_segments:{setting}")
        reserved[setting] = []
        draw = random.Random(0)  # noqa: S311
        for done in range(0, NUM_REQUESTS if bench.is_gpu else 8, AT_ONCE):
            if not bench.has_time(6 if bench.is_gpu else 1):
                return
            run_requests(bench, engine, draw)
            if bench.is_gpu:
                reserved[setting].append(torch.cuda.memory_reserved() / GIB)
            if done % (5 * AT_ONCE) == 0:
                bench.row(expandable_segments=setting, requests=done + AT_ONCE, **memory(bench))
        last[setting] = memory(bench)
    if not bench.is_gpu:
        bench.note("The memory of a CPU is not measured.")
    else:
        half = len(reserved["True"]) // 2
        growth = {name: each[-1] / each[half] for name, each in reserved.items()}
        ratios = f"x{growth['True']:.2f} with the setting, x{growth['False']:.2f} without"
        has_failed = last["True"]["retries"] or last["True"]["out_of_memory"]
        follows = "Look for the growth." if growth["True"] > GROWTH or has_failed else "Keep the setting."
        bench.decide("Q8 memory growth", measured=f"reserved memory in the second half: {ratios}", follows=follows)


def run_requests(bench: Bench, engine: Engine, draw: random.Random) -> None:
    """Run requests of random sizes and step counts to their end."""
    for _ in range(AT_ONCE):
        (state,) = bench.states(engine, draw.choice(bench.plan.sizes), 1, num_steps=draw.choice((1, 2, 3)))
        engine.step_scheduler.add_request(state)
    while engine.step():
        pass


def memory(bench: Bench) -> dict[str, float | int | None]:
    if not bench.is_gpu:
        return {"allocated_GiB": None}
    stats = torch.cuda.memory_stats()
    return {
        "allocated_GiB": torch.cuda.memory_allocated() / GIB,
        "reserved_GiB": torch.cuda.memory_reserved() / GIB,
        "retries": stats["num_alloc_retries"],
        "out_of_memory": stats["num_ooms"],
    }
