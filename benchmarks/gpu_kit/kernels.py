# SPDX-License-Identifier: Apache-2.0
"""Part `kernels`: what cuDNN's benchmark mode and CUDA graphs gain; the launch of a pass, and its divisions."""

import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from diffusion_engine.engine import Engine

from benchmarks.gpu_kit.bench import Bench

GAIN = 0.05
GRAPH_GAIN = 0.15
DIVISIONS = 0.02
LAUNCHED = (64, 64)
NUM_LAUNCHES = 5


def measure(bench: Bench) -> None:
    engine = bench.engine(max_rows=16)
    sizes = dict.fromkeys((bench.plan.sizes[0], bench.plan.sizes[-1]))
    gains: list[float] = []
    shares: list[float] = []
    graph_gains: list[float] = []
    launch = launch_ms(bench, engine)
    for size, num_requests in itertools.product(sizes, (1, 4)):
        if not bench.has_time(15):
            break
        states = bench.states(engine, size, num_requests)
        predict = partial(engine.denoiser.predict, states)
        eager = bench.milliseconds(predict)
        torch.backends.cudnn.benchmark = True
        first = 1000 * bench.seconds(predict)
        tuned = bench.milliseconds(predict)
        torch.backends.cudnn.benchmark = False
        graph, graph_gib = graph_ms(bench, engine, states) if bench.is_gpu else (None, None)
        bench.row(
            size=f"{size[0]}x{size[1]}",
            rows=2 * num_requests,
            pass_ms=eager,
            pass_with_cudnn_benchmark_ms=tuned,
            first_such_pass_ms=first,
            graph_ms=graph,
            graph_GiB=graph_gib,
        )
        gains.append(1 - tuned / eager)
        share = division_share(bench, predict)
        shares += [] if share is None else [share]
        graph_gains += [] if graph is None else [1 - graph / eager]
    decide(bench, gains=gains, shares=shares, graph_gains=graph_gains, launch=launch)


def decide(bench: Bench, *, gains: list[float], shares: list[float], graph_gains: list[float], launch: float) -> None:
    if gains:
        follows = "Turn it on, and warm up every row count." if min(gains) > GAIN else "Leave it off."
        measured = f"saves {min(gains):.1%} to {max(gains):.1%} of a pass"
        bench.decide("Q6 cudnn.benchmark", measured=measured, follows=follows)
    if shares:
        follows = "Use an own attention processor." if max(shares) > DIVISIONS else "Leave diffusers' own."
        bench.decide("Q19 divisions", measured=f"at most {max(shares):.1%} of a pass", follows=follows)
    if graph_gains:
        measured = f"graphs save up to {max(graph_gains):.1%}; launching a pass takes {launch:.0f} ms"
        follows = "Capture a graph for each size and row count." if max(graph_gains) > GRAPH_GAIN else "No graphs."
        bench.decide("Q3 CUDA graphs", measured=measured, follows=follows)


def launch_ms(bench: Bench, engine: Engine) -> float:
    """The time until a pass is queued on the GPU.

    The pass is tiny: the queue holds about a thousand kernels, so launching a larger pass waits for its kernels.
    """
    width, height = LAUNCHED
    tiny = replace(bench, plan=replace(bench.plan, sizes=(LAUNCHED,)))
    states = tiny.states(engine, LAUNCHED, 1)
    times = []
    for _ in range(2 + NUM_LAUNCHES):
        bench.synchronize()
        started = time.perf_counter()
        engine.denoiser.predict(states)
        times.append(1000 * (time.perf_counter() - started))
    bench.synchronize()
    launch = statistics.median(times[2:])  # without the warm-ups
    bench.row(size=f"{width}x{height}", rows=2, launch_ms=launch)
    return launch


def division_share(bench: Bench, predict: Callable[[], object]) -> float | None:
    """The share of divisions in the time of a pass; diffusers divides the result of each attention by 1.

    None if the profiler sees no GPU.
    """
    with torch.profiler.profile() as profile:  # of all supported devices
        predict()
        bench.synchronize()
    measure_of = "self_device_time_total" if bench.is_gpu else "self_cpu_time_total"
    times = {each.key: getattr(each, measure_of) for each in profile.key_averages() if each.key.startswith("aten::")}
    total = sum(times.values())
    return (times.get("aten::div", 0.0) + times.get("aten::div_", 0.0)) / total if total else None


@torch.inference_mode()
def graph_ms(bench: Bench, engine: Engine, states: list[Any]) -> tuple[float, float]:
    """The time of a pass that was captured as a CUDA graph, and the graph's memory."""
    denoiser = engine.denoiser
    plan = denoiser._plan(states)
    (batch,) = plan.inputs
    latents = torch.cat([denoiser._input(state) for state in states])[plan.requests]
    timesteps = denoiser._timesteps(states)[plan.requests]
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            denoiser._pass(plan.unet, batch, latents, timesteps, states)
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    torch.cuda.empty_cache()  # as the capture does
    reserved = torch.cuda.memory_reserved()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        denoiser._pass(plan.unet, batch, latents, timesteps, states)
    added = (torch.cuda.memory_reserved() - reserved) / 2**30
    ms = bench.milliseconds(graph.replay)
    graph.reset()
    return ms, added
