# SPDX-License-Identifier: Apache-2.0
"""`python -m demo.evaluate`: draw unseen cases with a checkpoint, measure them, and write sheets and figures."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers import EulerDiscreteScheduler, LCMScheduler, StableDiffusionXLControlNetPipeline, UniPCMultistepScheduler
from diffusers.utils import logging as diffusers_logging
from tqdm import tqdm

from demo.evaluation.cases import FEW_STEP, all_cases, lora_cases
from demo.evaluation.figures import measure
from demo.samples import generate
from demo.sheet import contact_sheet
from demo.styles import STYLES, stylised

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from demo.evaluation.case import Case
    from demo.evaluation.single_figures import Figures, Pictures

logger = logging.getLogger("demo.evaluate")

HERE = Path(__file__).parent
CHECKPOINT = HERE.parent / "models" / "sdxl_scribble_controlnet_stream" / "1" / "demo_checkpoint"
BATCH_PIXELS = 8 * 128 * 128
# Groups whose prompts ask for something else than their painted scenes show.
UNPAINTED = ("nouns", "shades", "ground", "seeds", "scale 0")
SCHEDULERS = {"euler": EulerDiscreteScheduler, "unipc": UniPCMultistepScheduler, "lcm": LCMScheduler}


@dataclass(frozen=True, slots=True)
class Preset:
    """The server's settings of a picture."""

    steps: int
    guidance: float
    scheduler: str

    @classmethod
    def of(cls, serving: dict[str, Any], name: str) -> Preset:
        values = serving.get("defaults", {}) | serving.get("presets", {}).get(name, {})
        return cls(
            int(values.get("num_inference_steps", 12)),
            float(values.get("guidance_scale", 2.5)),
            str(values.get("scheduler", "euler")),
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
        scheduler = SCHEDULERS[preset.scheduler]
        if not isinstance(self.pipe.scheduler, scheduler):
            self.pipe.scheduler = scheduler.from_config(self.pipe.scheduler.config)
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


def draw(painter: Painter, cases: Sequence[Case], *, preset: Preset | None) -> Pictures:
    """The cases' pictures, with their own presets or with this one."""
    pictures: dict[int, np.ndarray] = {}
    with tqdm(total=len(cases), desc="pictures") as bar:
        for members in batches(cases):
            chosen = [cases[i] for i in members]
            settings = preset if preset and not chosen[0].lora else painter.preset(chosen[0].lora)
            pictures.update(zip(members, painter.paint(chosen, settings), strict=True))
            bar.update(len(members))
    return [pictures[i] for i in range(len(cases))]


def time_pictures(painter: Painter, case: Case, preset: Preset) -> Figures:
    """Seconds for one picture. The machine should be idle."""
    spent = []
    for _ in range(4):
        start = time.perf_counter()
        painter.paint([case], preset)
        spent.append(time.perf_counter() - start)
    return {
        "seconds": round(min(spent), 2),
        "seconds_median": round(float(np.median(spent)), 2),
        "threads": torch.get_num_threads(),
        "steps": preset.steps,
        "guidance_scale": preset.guidance,
        "scheduler": preset.scheduler,
    }


def write_sheets(cases: list[Case], pictures: Pictures, out: Path) -> None:
    for group in dict.fromkeys(c.group for c in cases):
        cells = [
            (c.scribble, p, f"{c.lora + ': ' if c.lora else ''}{c.prompt or '(empty prompt)'}")
            for c, p in zip(cases, pictures, strict=True)
            if c.group == group
        ]
        side = max(cells[0][1].shape[:2])
        contact_sheet(cells[:48], out / f"{group.replace(' ', '-')}.png", columns=8 if side <= 192 else 6, side=side)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo.evaluate", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument(
        "--out", type=Path, default=HERE / "work" / "evaluation", help="folder for sheets and figures.json"
    )
    parser.add_argument("--only", action="append", help="only this group of cases; can be repeated")
    parser.add_argument("--every", type=int, default=1, help="only every n-th case of each group")
    parser.add_argument("--side", type=int, help="pixels of the pictures; default: the checkpoint's")
    parser.add_argument("--preset", default="quality", help="of the checkpoint's serving.json")
    parser.add_argument("--steps", type=int, help="default: the preset's")
    parser.add_argument("--guidance", type=float, help="default: the preset's")
    parser.add_argument(
        "--targets",
        action="store_true",
        help="measure the pictures that scenes.py paints instead, to check the measures",
    )
    return parser.parse_args(arguments)


def chosen_cases(options: argparse.Namespace, side: int, loras: Sequence[str]) -> list[Case]:
    cases = all_cases(side)
    cases += lora_cases(cases, loras)
    wanted = [c for c in cases if not options.only or c.group in options.only]
    seen: dict[str, int] = defaultdict(int)
    kept = []
    for case in wanted:
        if seen[case.group] % options.every == 0:
            kept.append(case)
        seen[case.group] += 1
    return kept


def ideal(case: Case) -> np.ndarray:
    """The picture that a checkpoint should paint, in the case's style."""
    return stylised(case.scene, case.lora, np.random.default_rng(case.seed)) if case.lora else case.scene.picture


def report(cases: list[Case], pictures: Pictures, out: Path) -> dict[str, Figures]:
    """Write the sheets and measure the pictures."""
    out.mkdir(parents=True, exist_ok=True)
    write_sheets(cases, pictures, out)
    return measure(cases, pictures)


def evaluate(options: argparse.Namespace) -> dict[str, Figures]:
    if options.targets:
        cases = [c for c in chosen_cases(options, options.side or 256, tuple(STYLES)) if c.group not in UNPAINTED]
        return report(cases, [ideal(c) for c in cases], options.out)
    painter = Painter(options.checkpoint)
    cases = chosen_cases(options, options.side or painter.side, tuple(painter.loras))
    usual = Preset.of(painter.serving, options.preset)
    preset = Preset(options.steps or usual.steps, options.guidance or usual.guidance, usual.scheduler)
    pictures = draw(painter, cases, preset=preset)
    figures = report(cases, pictures, options.out)
    plain = next(c for c in cases if not c.lora)
    figures["speed"] = time_pictures(painter, plain, preset)
    if few := [c for c in cases if c.lora == FEW_STEP]:
        figures["speed of few steps"] = time_pictures(painter, few[0], painter.preset(FEW_STEP))
    figures["run"] = {"cases": len(cases), "steps": preset.steps, "guidance_scale": preset.guidance}
    (options.out / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    return figures


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    diffusers_logging.set_verbosity_error()
    options = parse()
    try:
        figures = evaluate(options)
    except FileNotFoundError as error:
        logger.error("%s", error)
        return 2
    logger.info("%s", json.dumps(figures, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
