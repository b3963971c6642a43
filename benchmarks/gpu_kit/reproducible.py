# SPDX-License-Identifier: Apache-2.0
"""Part `reproducible`: whether a reproducible request makes the same picture alone and beside other requests."""

import hashlib
from typing import Any

from diffusion_engine.engine import Engine
from diffusion_engine.request_parser import RowValues, parse_request
from diffusion_engine.request_state import GeneratedPicture

from benchmarks.engine.job import scribble_file
from benchmarks.gpu_kit.bench import Bench
from benchmarks.gpu_kit.cancellation import StepListener
from benchmarks.gpu_kit.parity import pixels
from benchmarks.gpu_kit.plan import Size

NUM_OTHERS = 3


class PictureListener(StepListener):
    """Keeps the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.content = b""

    def completed(self, picture: GeneratedPicture) -> None:
        self.content = picture.content
        super().completed(picture)


def measure(bench: Bench) -> None:
    engine = bench.engine(max_rows=2 * (NUM_OTHERS + 1))
    engine.start()
    are_equal = True
    try:
        for size in dict.fromkeys((bench.plan.sizes[0], bench.plan.sizes[-1])):
            alone, beside = set(), set()
            for _ in range(bench.plan.num_repeats):
                alone.add(picture_hash(engine, size))
                others = [submit(engine, size, seed=seed) for seed in range(NUM_OTHERS)]
                beside.add(picture_hash(engine, size))
                for other in others:
                    other.wait()
            bench.row(
                size=f"{size[0]}x{size[1]}",
                pictures=2 * bench.plan.num_repeats,
                different_alone=len(alone),
                different_in_all=len(alone | beside),
            )
            are_equal = are_equal and len(alone | beside) == 1
    finally:
        engine.stop()
    follows = "`reproducible` holds on this GPU." if are_equal else "Such requests need deterministic kernels."
    bench.decide("Q11 reproducible", measured="all equal" if are_equal else "pictures differ", follows=follows)


def picture_hash(engine: Engine, size: Size) -> str:
    listener = submit(engine, size, seed=7, reproducible=True)
    listener.wait()
    return hashlib.sha256(pixels(listener.content).tobytes()).hexdigest()


def submit(engine: Engine, size: Size, *, seed: int, **more: Any) -> PictureListener:
    listener = PictureListener()
    values: RowValues = {
        "prompt": b"a red house",
        "image": scribble_file(seed),
        "seed": seed,
        "width": size[0],
        "height": size[1],
        "num_inference_steps": 4,
        "scheduler": b"euler_ancestral",
        **more,
    }
    engine.submit(parse_request(values, engine.capabilities), listener)
    return listener
