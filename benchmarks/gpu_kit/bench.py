# SPDX-License-Identifier: Apache-2.0
"""What a part gets: the plan, the networks, the time, and where to report rows."""

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import diffusers
import torch
import transformers
from diffusion_engine.capabilities import Capabilities, Defaults
from diffusion_engine.config import EngineConfig
from diffusion_engine.engine import Engine
from diffusion_engine.networks import Networks
from diffusion_engine.optimization import optimized_networks
from diffusion_engine.request_state import BatchKey, RequestState
from diffusion_engine.row_limits import RowLimits
from diffusion_engine.row_profiler import dummy_request

from benchmarks.engine.random_weights import ARCHITECTURE, make_pipeline, tiny_architecture
from benchmarks.engine.stock_pipeline import StockPipeline
from benchmarks.gpu_kit.plan import Plan, Size

GIB = 1024**3
Cell = str | int | float | bool | None


def prepare(plan: Plan) -> bool:
    """Settings of a part's process. Returns False if it was forked from a process that has used the GPU."""
    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.set_verbosity_error()
    if plan.is_tiny:
        torch.set_num_threads(1)
    return not torch.cuda._is_in_bad_fork()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Given to `measure` of every part.

    Args:
        ends_at: a time of `time.monotonic()`. The part is stopped then.
        send: sends a row or a note to the results.
    """

    plan: Plan
    ends_at: float
    send: Callable[[str, Any], None]

    def row(self, **cells: Cell) -> None:
        """Add a row to the part's table. Underscores in the names of columns become spaces."""
        self.send("row", {name.replace("_", " "): cell for name, cell in cells.items()})

    def note(self, text: str) -> None:
        """Add a sentence below the table."""
        self.send("note", text)

    def decide(self, question: str, *, measured: str, follows: str) -> None:
        """Answer a question of questions.md."""
        self.send("decision", {"question": question, "measured": measured, "follows": follows})

    def skip(self, reason: str) -> None:
        """End the part without a result. Return after this."""
        self.send("skipped", reason)

    def has_time(self, seconds: float) -> bool:
        """Whether work that takes so long would end in time. If not, the results say so."""
        if time.monotonic() + seconds < self.ends_at:
            return True
        self.note("The time was too short for the rest.")
        return False

    @property
    def device(self) -> torch.device:
        return torch.device(self.plan.device)

    @property
    def capabilities(self) -> Capabilities:
        width, height = self.plan.sizes[0]
        defaults = Defaults(width=width, height=height, num_inference_steps=self.plan.num_steps, output_format="png")
        return Capabilities(name="random weights", sizes=self.plan.sizes, defaults=defaults)

    def pipeline(self, dtype: str = "") -> Any:
        """diffusers' pipeline with random weights, on the plan's device."""
        gc.collect()  # earlier networks, whose memory these need
        architecture = tiny_architecture() if self.plan.is_tiny else ARCHITECTURE
        return make_pipeline(
            architecture=architecture, device=self.device, dtype=getattr(torch, dtype or self.plan.dtype)
        )

    def networks(self, pipeline: Any, *, is_channels_last: bool = True, is_compiled: bool = False) -> Networks:
        """The pipeline's networks as the engine uses them."""
        if is_compiled and self.plan.compile_backend:
            torch.compiler.set_default_backend(self.plan.compile_backend)
        config = EngineConfig(
            checkpoint="random", is_channels_last=is_channels_last, is_compiled=is_compiled, is_traced=False
        )
        return replace(optimized_networks(config, pipeline), cpu_parallel_size=1)

    def stock(self) -> StockPipeline:
        """Stock diffusers and the engine's networks with the same random weights, in the plan's dtype."""
        pipeline = self.pipeline()
        return StockPipeline(pipeline, self.capabilities, self.networks(pipeline))

    @property
    def is_gpu(self) -> bool:
        return self.device.type == "cuda"

    def engine(self, *, max_rows: int, networks: Networks | None = None) -> Engine:
        """An engine that is not started. `step` drives it."""
        return Engine(networks or self.networks(self.pipeline()), self.capabilities, RowLimits({}, default=max_rows))

    def states(
        self, engine: Engine, size: Size, count: int, *, scheduler: str = "euler", num_steps: int = 30
    ) -> list[RequestState]:
        """Guided requests, encoded."""
        made = [dummy_request(BatchKey(*size), self.capabilities) for _ in range(count)]
        for state in made:
            state.request = replace(
                state.request, guidance_scale=5.0, scheduler=scheduler, num_inference_steps=num_steps
            )
            state.encoded = engine.encoder.encode(state)
        return made

    def milliseconds(self, work: Callable[[], object], *, repeats: int = 5) -> float:
        """The median time of some work, after two warm-ups."""
        work()
        work()
        return 1000 * statistics.median(self.seconds(work) for _ in range(repeats))

    def synchronize(self) -> None:
        if self.is_gpu:
            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], object]) -> float:
        """The time of some work, including what it queued on the GPU."""
        self.synchronize()
        started = time.perf_counter()
        work()
        self.synchronize()
        return time.perf_counter() - started

    def reset_peak(self) -> None:
        if self.is_gpu:
            torch.cuda.reset_peak_memory_stats()

    def peak_gib(self) -> float | None:
        """The most GPU memory of tensors since `reset_peak`; None on a CPU."""
        return torch.cuda.max_memory_allocated() / GIB if self.is_gpu else None
