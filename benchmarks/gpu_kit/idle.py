# SPDX-License-Identifier: Apache-2.0
"""Part `idle`: the share of a step in which no pass runs on the GPU, by requests, size, scheduler and previews."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffusion_engine.engine import Engine

from benchmarks.gpu_kit.bench import Bench
from benchmarks.gpu_kit.plan import Size

NUM_STEPS = 6
MOST_IDLE = 0.03


def measure(bench: Bench) -> None:
    engine = bench.engine(max_rows=2 * max(bench.plan.at_once))
    shares: dict[str, float] = {}
    for size in dict.fromkeys((bench.plan.sizes[0], bench.plan.sizes[-1])):
        for count in dict.fromkeys((1, min(4, max(bench.plan.at_once)))):
            for scheduler in ("euler", "euler_ancestral"):
                for preview_every in (0, 1):
                    if not bench.has_time(3):
                        return
                    wall, in_passes = step_times(bench, engine, size, count, scheduler, preview_every)
                    share = max(0.0, 1 - in_passes / wall)
                    name = f"{size[0]}x{size[1]}, {count} requests, {scheduler}"
                    name += ", previews" if preview_every else ""
                    shares[name] = share
                    bench.row(case=name, ms_a_step=1000 * wall, ms_in_the_pass=1000 * in_passes, idle_share=share)
    worst = max(shares, key=lambda each: shares[each])
    measured = f"at most {shares[worst]:.1%} ({worst})"
    follows = "Nothing to gain." if shares[worst] <= MOST_IDLE else "Overlap the work between passes: see questions.md."
    bench.decide("Q4 idle GPU", measured=measured, follows=follows)


def step_times(
    bench: Bench, engine: Engine, size: Size, count: int, scheduler: str, preview_every: int
) -> tuple[float, float]:
    """Seconds of a step, and of its pass on the GPU."""
    states = bench.states(engine, size, count, scheduler=scheduler, num_steps=3 * NUM_STEPS)
    for state in states:
        state.preview_every = preview_every
        engine.step_scheduler.add_request(state)
    timed = TimedPasses(engine.denoiser.predict, is_gpu=bench.is_gpu)
    engine.denoiser.predict = timed  # type: ignore[method-assign]
    for _ in range(2):
        engine.step()
    timed.spans.clear()
    wall = bench.seconds(lambda: [engine.step() for _ in range(NUM_STEPS)])
    engine.denoiser.predict = timed.predict  # type: ignore[method-assign]
    for state in states:
        state.cancel()
    engine.step()
    return wall / NUM_STEPS, sum(timed.seconds()) / NUM_STEPS


class TimedPasses:
    """Measures passes on the GPU's own clock."""

    def __init__(self, predict: Callable[..., Any], *, is_gpu: bool) -> None:
        self.predict = predict
        self.spans: list[tuple[Any, Any]] = []
        self._is_gpu = is_gpu

    def __call__(self, states: Sequence[Any]) -> Any:
        began = self._now()
        result = self.predict(states)
        self.spans.append((began, self._now()))
        return result

    def seconds(self) -> list[float]:
        """The time of each pass. All passes must have ended."""
        if self._is_gpu:
            return [began.elapsed_time(ended) / 1000 for began, ended in self.spans]
        return [ended - began for began, ended in self.spans]

    def _now(self) -> Any:
        if not self._is_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event
