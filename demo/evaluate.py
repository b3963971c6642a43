# SPDX-License-Identifier: Apache-2.0
"""`python -m demo.evaluate`: draw unseen cases with a checkpoint, measure them, and write sheets and figures."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from diffusers.utils import logging as diffusers_logging

from demo.evaluation.cases import FEW_STEP, all_cases, lora_cases
from demo.evaluation.figures import measure
from demo.evaluation.painter import Painter, Preset, draw
from demo.sheet import contact_sheet
from demo.styles import STYLES, stylised

if TYPE_CHECKING:
    from collections.abc import Sequence

    from demo.evaluation.case import Case
    from demo.evaluation.single_figures import Figures, Pictures
    from demo.pixels import Pixels

logger = logging.getLogger("demo.evaluate")

HERE = Path(__file__).parent
CHECKPOINT = HERE.parent / "models" / "sdxl_scribble_controlnet_stream" / "1" / "demo_checkpoint"
# Groups whose prompts ask for something else than their painted scenes show.
UNPAINTED = ("nouns", "shades", "ground", "seeds", "scale 0")


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


def ideal(case: Case) -> Pixels:
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
    preset = replace(usual, steps=options.steps or usual.steps, guidance=options.guidance or usual.guidance)
    pictures = draw(painter, cases, preset=preset)
    figures = report(cases, pictures, options.out)
    if plain := [c for c in cases if not c.lora]:
        figures["speed"] = time_pictures(painter, plain[0], preset)
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
