# SPDX-License-Identifier: Apache-2.0
"""A checkpoint that paints cases with the server's presets, with or without a LoRA."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    StableDiffusionXLControlNetPipeline,
    UniPCMultistepScheduler,
)
from tqdm import tqdm

from demo.evaluation.cases import FEW_STEP
from demo.samples import generate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from demo.evaluation.case import Case
    from demo.evaluation.single_figures import Pictures
    from demo.pixels import Pixels

BATCH_PIXELS = 8 * 128 * 128
SCHEDULERS = {
    "euler": EulerDiscreteScheduler,
    "euler_ancestral": EulerAncestralDiscreteScheduler,
    "dpmpp_2m": DPMSolverMultistepScheduler,
    "unipc": UniPCMultistepScheduler,
    "lcm": LCMScheduler,
}


@dataclass(frozen=True, slots=True)
class Preset:
    """The server's settings of a picture."""

    steps: int
    guidance: float
    scheduler: str
    timestep_spacing: str  # "": as the checkpoint's scheduler

    @classmethod
    def of(cls, serving: dict[str, Any], name: str) -> Preset:
        values = serving.get("defaults", {}) | serving.get("presets", {}).get(name, {})
        return cls(
            int(values.get("num_inference_steps", 12)),
            float(values.get("guidance_scale", 2.5)),
            str(values.get("scheduler", "euler")),
            str(values.get("timestep_spacing", "")),
        )


class Painter:
    """A checkpoint with its LoRAs, as diffusers loads them."""

    def __init__(self, folder: Path) -> None:
        if not (folder / "model_index.json").exists():
            message = f"{folder} is not a checkpoint folder: it has no model_index.json"
            raise FileNotFoundError(message)
        # Without the dtype, transformers would keep the file's fp16, and the first call would fail on mixed dtypes.
        self.pipe = StableDiffusionXLControlNetPipeline.from_pretrained(folder, torch_dtype=torch.float32)
        self.pipe.set_progress_bar_config(disable=True)
        serving = folder / "serving.json"
        self.serving = json.loads(serving.read_text()) if serving.exists() else {}
        self.loras = {path.stem: path for path in sorted((folder / "loras").glob("*.safetensors"))}
        self.lora = ""
        self.scheduler_config = self.pipe.scheduler.config

    @property
    def side(self) -> int:
        return int(self.serving.get("defaults", {}).get("height", 256))

    def use(self, lora: str) -> None:
        """Paint with this LoRA, or without one."""
        if lora == self.lora:
            return
        if self.lora:
            self.pipe.unload_lora_weights()
        if lora:
            self.pipe.load_lora_weights(self.loras[lora])
        self.lora = lora

    def preset(self, lora: str) -> Preset:
        return Preset.of(self.serving, "draft" if lora == FEW_STEP else "quality")

    def paint(self, cases: Sequence[Case], preset: Preset) -> Pictures:
        """Pictures of cases of one size, scale and LoRA."""
        self.use(cases[0].lora)
        changes = {"timestep_spacing": preset.timestep_spacing} if preset.timestep_spacing else {}
        self.pipe.scheduler = SCHEDULERS[preset.scheduler].from_config(self.scheduler_config, **changes)
        return generate(
            self.pipe,
            [c.prompt for c in cases],
            [c.scribble for c in cases],
            seeds=[c.seed for c in cases],
            steps=preset.steps,
            guidance=preset.guidance,
            scale=cases[0].scale,
        )


def batches(cases: Sequence[Case]) -> Iterator[list[int]]:
    groups: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for index, case in enumerate(cases):
        groups[(case.lora, *case.scribble.shape, case.scale)].append(index)
    for (_, height, width, _), members in sorted(groups.items()):
        count = max(1, BATCH_PIXELS // (height * width))
        yield from (members[start : start + count] for start in range(0, len(members), count))


def draw(painter: Painter, cases: Sequence[Case], *, preset: Preset) -> Pictures:
    """The cases' pictures with this preset, or that of their LoRA."""
    pictures: dict[int, Pixels] = {}
    with tqdm(total=len(cases), desc="pictures") as bar:
        for members in batches(cases):
            chosen = [cases[i] for i in members]
            settings = painter.preset(chosen[0].lora) if chosen[0].lora else preset
            pictures.update(zip(members, painter.paint(chosen, settings), strict=True))
            bar.update(len(members))
    return [pictures[i] for i in range(len(cases))]
