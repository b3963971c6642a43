# SPDX-License-Identifier: Apache-2.0
"""Part `kernels`: what cuDNN's benchmark mode and CUDA graphs gain; the launch of a pass, and its divisions."""

import time
from typing import Any

import torch
from diffusion_engine.engine import Engine

from benchmarks.gpu_kit.bench import Bench
from benchmarks.gpu_kit.plan import Size

GAIN = 0.05
GRAPH_GAIN = 0.15
LAUNCH_SHARE = 0.8
DIVISIONS = 0.02


def measure(bench: Bench) -> None:
    engine = bench.engine(max_rows=16)
    sizes = dict.fromkeys((bench.plan.sizes[0], bench.plan.sizes[-1]))
    gains: list[float] = []
    divisions: list[float] = []
    graph_gains: list[float] = []
    launches: list[float] = []
    for size in sizes:
        for num_requests in (1, 4):
            if not bench.has_time(5):
                break
            states = bench.states(engine, size, num_requests)
            eager = bench.milliseconds(lambda states=states: engine.denoiser.predict(states))  # type: ignore[misc]
            launch = launch_ms(bench, engine, states)
            torch.backends.cudnn.benchmark = True
            first = 1000 * bench.seconds(lambda states=states: engine.denoiser.predict(states))  # type: ignore[misc]
            tuned = bench.milliseconds(lambda states=states: engine.denoiser.predict(states))  # type: ignore[misc]
            torch.backends.cudnn.benchmark = False
            graph, graph_gib = graph_ms(bench, engine, states) if bench.is_gpu else (None, None)
            add_row(bench, size, 2 * num_requests, (eager, launch, tuned, first), graph=graph, graph_gib=graph_gib)
            gains.append(1 - tuned / eager)
            divisions.append(division_share(bench, engine, states))
            launches.append(launch / eager)
            if graph is not None:
                graph_gains.append(1 - graph / eager)
    follows = "Turn it on, and warm up every row count." if min(gains) > GAIN else "Leave it off."
    bench.decide(
        "Q6 cudnn.benchmark", measured=f"saves {min(gains):.1%} to {max(gains):.1%} of a pass", follows=follows
    )
    follows = "Use an own attention processor." if max(divisions) > DIVISIONS else "Leave diffusers' own."
    bench.decide("Q19 divisions", measured=f"at most {max(divisions):.1%} of a pass", follows=follows)
    if graph_gains:
        is_worth_it = max(graph_gains) > GRAPH_GAIN or max(launches) > LAUNCH_SHARE
        measured = f"graphs save up to {max(graph_gains):.1%}; launching takes up to {max(launches):.0%} of a pass"
        follows = "Capture a graph for each size and row count." if is_worth_it else "No graphs."
        bench.decide("Q3 CUDA graphs", measured=measured, follows=follows)


def add_row(
    bench: Bench,
    size: Size,
    rows: int,
    times: tuple[float, float, float, float],
    *,
    graph: float | None,
    graph_gib: float | None,
) -> None:
    eager, launch, tuned, first = times
    bench.row(
        size=f"{size[0]}x{size[1]}",
        rows=rows,
        pass_ms=eager,
        launch_ms=launch,
        pass_with_cudnn_benchmark_ms=tuned,
        first_such_pass_ms=first,
        graph_ms=graph,
        graph_GiB=graph_gib,
    )


def launch_ms(bench: Bench, engine: Engine, states: list[Any]) -> float:
    """The time until a pass is queued on the GPU."""
    bench.synchronize()
    started = time.perf_counter()
    engine.denoiser.predict(states)
    launched = time.perf_counter() - started
    bench.synchronize()
    return 1000 * launched


def division_share(bench: Bench, engine: Engine, states: list[Any]) -> float:
    """The share of divisions in the time of a pass; diffusers divides the result of each attention by 1."""
    with torch.profiler.profile() as profile:  # of all supported devices
        engine.denoiser.predict(states)
        bench.synchronize()
    measure_of = "self_device_time_total" if bench.is_gpu else "self_cpu_time_total"
    times = {each.key: getattr(each, measure_of) for each in profile.key_averages() if each.key.startswith("aten::")}
    share: float = (times.get("aten::div", 0.0) + times.get("aten::div_", 0.0)) / max(1.0, sum(times.values()))
    return share


@torch.inference_mode()
def graph_ms(bench: Bench, engine: Engine, states: list[Any]) -> tuple[float, float]:
    """The time of a pass that was captured as a CUDA graph, and the graph's memory."""
    denoiser = engine.denoiser
    (batch,) = denoiser._input_batches(states)
    latents = torch.cat([denoiser._input(each) for each in states])
    timesteps = torch.stack([denoiser._timestep(each) for each in states for _ in range(each.num_rows)])
    timesteps = timesteps.to(bench.device)
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            denoiser._pass(batch, latents, timesteps)
    torch.cuda.current_stream().wait_stream(side)
    reserved = torch.cuda.memory_reserved()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        denoiser._pass(batch, latents, timesteps)
    added = (torch.cuda.memory_reserved() - reserved) / 2**30
    ms = bench.milliseconds(graph.replay)
    graph.reset()
    return ms, added
