# SPDX-License-Identifier: Apache-2.0
"""Part `parity`: the engine's pictures against those of stock diffusers with the same weights, by dtype.

The requests have different step counts, and share the engine's passes. Stock diffusers makes one at a time.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from diffusion_engine.capabilities import Capabilities
from diffusion_engine.errors import RequestError
from diffusion_engine.weights import load_pipeline
from PIL import Image

from benchmarks.engine.in_process_engine import InProcessEngine
from benchmarks.engine.job import Job
from benchmarks.engine.stock_pipeline import StockPipeline, Weights
from benchmarks.gpu_kit.bench import Bench

Pixels = npt.NDArray[np.int16]
DTYPES = ("float32", "float16", "bfloat16")  # float32 first, because the others are also compared with it
FULL_SIZE_GIB = {"float32": 24, "float16": 14, "bfloat16": 14}
OVERFLOW = 30_000  # the factor for the VAE's first weights with which it overflows in float16, but not in float32


def measure(bench: Bench) -> None:
    def demo(dtype: str) -> tuple[Any, Capabilities]:
        config = Weights(device=bench.plan.device, dtype=dtype).config()
        capabilities = Capabilities.of_checkpoint(config.checkpoint)
        return load_pipeline(config), png(at_size(capabilities, 96) if bench.plan.is_tiny else capabilities)

    bench.note("Differences and contrast (standard deviation) are of 255. The float32 columns are means, too.")

    def random(dtype: str) -> tuple[Any, Capabilities]:
        return bench.pipeline(dtype), bench.capabilities

    for name, load in {"demo checkpoint": demo, "random weights": random}.items():
        reference: list[Pixels] = []
        for dtype in DTYPES:
            if name == "random weights" and (reason := too_small(bench, dtype)):
                bench.note(reason)
                continue
            if not bench.has_time(2 if bench.plan.is_tiny or name == "demo checkpoint" else 20):
                return
            reference = compare(bench, f"{name}, {dtype}", load, dtype, reference)
        if name == "demo checkpoint" or not too_small(bench, "float16"):
            compare_overflow(bench, name, load)


def compare(
    bench: Bench, name: str, load: Callable[[str], tuple[Any, Capabilities]], dtype: str, reference: list[Pixels]
) -> list[Pixels]:
    """Add a row. Returns the pictures in float32, for the other dtypes."""
    pipeline, capabilities = load(dtype)
    jobs = [Job(index=index, arrival=0, num_steps=count) for index, count in enumerate(bench.plan.parity_steps)]
    stock = StockPipeline(pipeline, capabilities, bench.networks(pipeline))
    expected = [pixels(stock.generate([job])[0]) for job in jobs]
    made = engine_pictures(stock, jobs)
    bench.row(
        networks=name,
        pictures=len(made),
        largest_difference=max(largest(one, other) for one, other in zip(made, expected, strict=True)),
        mean_difference=mean(made, expected),
        engine_to_float32=mean(made, reference) if reference else None,
        stock_to_float32=mean(expected, reference) if reference else None,
        contrast=float(np.mean([each.std() for each in made])),
    )
    return expected if dtype == "float32" else reference


def compare_overflow(bench: Bench, name: str, load: Callable[[str], tuple[Any, Capabilities]]) -> None:
    """A VAE that overflows in float16, like SDXL's own: an error without `force_upcast`, the right picture with it."""
    pipeline, capabilities = load("float16")
    pipeline.vae.decoder.conv_in.weight.data.mul_(OVERFLOW)
    job = Job(index=0, arrival=0, num_steps=bench.plan.parity_steps[0])
    stock = StockPipeline(pipeline, capabilities, bench.networks(pipeline))
    try:
        engine_pictures(stock, [job])
    except RequestError as error:
        bench.row(networks=f"{name}, float16, a VAE that overflows", pictures=0, error=error.code)
    else:
        bench.row(networks=f"{name}, float16, a VAE that overflows", pictures=1, error="none, so it did not overflow")
    pipeline.vae.register_to_config(force_upcast=True)
    expected = pixels(stock.generate([job])[0])  # diffusers converts the VAE for the picture, and back
    pipeline.vae.to(torch.float32)  # as the engine does when it loads the weights
    made = engine_pictures(StockPipeline(pipeline, capabilities, bench.networks(pipeline)), [job])
    bench.row(
        networks=f"{name}, float16, the same with `force_upcast`",
        pictures=1,
        largest_difference=largest(made[0], expected),
        mean_difference=mean(made, [expected]),
        contrast=float(made[0].std()),
    )


def engine_pictures(stock: StockPipeline, jobs: Sequence[Job]) -> list[Pixels]:
    engine = InProcessEngine("engine", stock, max_rows=2 * len(jobs))
    try:
        return [pixels(content) for content in engine.pictures(jobs)]
    finally:
        engine.close()


def too_small(bench: Bench, dtype: str) -> str:
    if bench.device.type == "cpu":
        return ""
    total, needed = torch.cuda.mem_get_info()[1] / 2**30, FULL_SIZE_GIB[dtype]
    return f"{dtype} at full size needs {needed} GiB; this GPU has {total:.0f} GiB." if total < needed else ""


def at_size(capabilities: Capabilities, side: int) -> Capabilities:
    return replace(capabilities, defaults=replace(capabilities.defaults, width=side, height=side))


def png(capabilities: Capabilities) -> Capabilities:
    return replace(capabilities, defaults=replace(capabilities.defaults, output_format="png"))


def pixels(content: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), dtype=np.int16)


def largest(one: Pixels, other: Pixels) -> int:
    return int(np.abs(one - other).max())


def mean(some: Sequence[Pixels], others: Sequence[Pixels]) -> float:
    return float(np.mean([np.abs(one - other).mean() for one, other in zip(some, others, strict=True)]))
