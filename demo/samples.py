# SPDX-License-Identifier: Apache-2.0
"""Sample sheets: the networks' pictures of fixed scenes that training never saw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from benchmarks.common.measurement_lock import wait_for_measurements
from demo.bundle import Bundle, pipeline
from demo.scenes import draw_scene
from demo.sheet import Cell, contact_sheet

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from diffusers import AutoencoderKL, StableDiffusionXLControlNetPipeline

    from demo.pixels import Pixels

AT_ONCE = 4  # pictures, so that a step is short and a measurement need not wait for long
UNSEEN = 990_001  # the seed of scenes that training never draws


@torch.no_grad()
def generate(
    pipe: StableDiffusionXLControlNetPipeline,
    prompts: Sequence[str],
    scribbles: Sequence[Pixels],
    *,
    seeds: Sequence[int],
    steps: int = 12,
    guidance: float = 3.0,
    scale: float = 1.0,
    after_step: Callable[[], None] | None = None,
) -> list[Pixels]:
    """Pictures (H, W, 3) for scribbles (H, W) of one size, each with its own generator."""

    def step_ended(*_: Any) -> dict[str, Any]:
        if after_step:
            after_step()
        return {}

    height, width = scribbles[0].shape
    result = pipe(
        prompt=list(prompts),
        image=[Image.fromarray(s).convert("RGB") for s in scribbles],
        num_inference_steps=steps,
        guidance_scale=guidance,
        controlnet_conditioning_scale=scale,
        height=height,
        width=width,
        generator=[torch.Generator().manual_seed(s) for s in seeds],
        output_type="np",
        callback_on_step_end=step_ended,
    )
    return [(picture * 255 + 0.5).astype(np.uint8) for picture in result.images]


def sample_sheet(
    bundle: Bundle, vae: AutoencoderKL, path: Path, *, count: int = 12, size: tuple[int, int] = (256, 256)
) -> None:
    cells = []
    for index in range(count):
        rng = np.random.default_rng([UNSEEN, index])
        scene = draw_scene(rng, size)
        cells.append((scene.scribble(rng), scene.caption(rng).text))
    pipe, finished = pipeline(bundle, vae), list[Cell]()
    for start in range(0, count, AT_ONCE):
        scribbles, captions = zip(*cells[start : start + AT_ONCE], strict=True)
        seeds = range(start, start + len(captions))
        pictures = generate(pipe, captions, scribbles, seeds=seeds, after_step=wait_for_measurements)
        finished += zip(scribbles, pictures, captions, strict=True)
    contact_sheet(finished, path, columns=6, side=size[0])
