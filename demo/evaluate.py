# SPDX-License-Identifier: Apache-2.0
"""`python -m demo.evaluate`: draw unseen cases with a checkpoint, measure them, and write sheets and figures."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from diffusers.utils import logging as diffusers_logging

from benchmarks.common.measurement_lock import measurement
from demo.evaluation.cases import COMPARED_WITH, FEW_STEP, all_cases, first_cases, lora_cases
from demo.evaluation.figures import MEASURES, measure
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
GROUPS = (*MEASURES, *COMPARED_WITH)
# Groups whose prompts ask for something else than their painted scenes show.
UNPAINTED = ("nouns", "shades", "ground", "seeds", "scale 0")


class EvaluationError(Exception):
    """A problem that the user can solve. The message says how."""


def time_pictures(painter: Painter, case: Case, preset: Preset) -> Figures:
    """Seconds for one picture, while no training runs. The machine should be idle."""
    spent = []
    with measurement():
        for _ in range(5):
            start = time.perf_counter()
            painter.paint([case], preset)
            spent.append(time.perf_counter() - start)
    return {
        "seconds": round(float(np.median(spent)), 2),
        "seconds_least": round(min(spent), 2),
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


def positive(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        message = f"{text} is not a whole number from 1"
        raise argparse.ArgumentTypeError(message)
    return int(text)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo.evaluate", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument(
        "--out", type=Path, default=HERE / "work" / "evaluation", help="folder for sheets and figures.json"
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        choices=GROUPS,
        metavar="GROUP",
        help="only this group of cases, and those that it is compared with; can be repeated",
    )
    parser.add_argument("--every", type=positive, default=1, help="only the first n-th part of each group's cases")
    parser.add_argument("--side", type=positive, help="pixels of the pictures; default: the checkpoint's")
    parser.add_argument("--preset", default="quality", help="of the checkpoint's serving.json")
    parser.add_argument("--steps", type=positive, help="default: the preset's")
    parser.add_argument("--guidance", type=float, help="default: the preset's")
    parser.add_argument(
        "--targets",
        action="store_true",
        help="measure the pictures that scenes.py paints instead, to check the measures",
    )
    return parser.parse_args(arguments)


def chosen_cases(options: argparse.Namespace, side: int, loras: Sequence[str]) -> list[Case]:
    plain = first_cases(all_cases(side), options.every)
    wanted = {*options.only, *(other for group in options.only for other in COMPARED_WITH.get(group, ()))}
    return [case for case in [*plain, *lora_cases(plain, loras)] if not wanted or case.group in wanted]


def chosen_preset(options: argparse.Namespace, painter: Painter) -> Preset:
    presets = painter.serving.get("presets", {})
    if presets and options.preset not in presets:
        message = f'the checkpoint has no preset "{options.preset}": its presets are {", ".join(presets)}'
        raise EvaluationError(message)
    usual = Preset.of(painter.serving, options.preset)
    return replace(
        usual,
        steps=usual.steps if options.steps is None else options.steps,
        guidance=usual.guidance if options.guidance is None else options.guidance,
    )


def ideal(case: Case) -> Pixels:
    """The picture that a checkpoint should paint, in the case's style."""
    return stylised(case.scene, case.lora, np.random.default_rng(case.seed)) if case.lora else case.scene.picture


def report(cases: list[Case], pictures: Pictures, out: Path) -> dict[str, Figures]:
    """Write the sheets and measure the pictures."""
    write_sheets(cases, pictures, out)
    return measure(cases, pictures)


def evaluate(options: argparse.Namespace) -> dict[str, Figures]:
    options.out.mkdir(parents=True, exist_ok=True)
    if options.targets:
        cases = [c for c in chosen_cases(options, options.side or 256, tuple(STYLES)) if c.group not in UNPAINTED]
        return report(cases, [ideal(c) for c in cases], options.out)
    painter = Painter(options.checkpoint)
    preset = chosen_preset(options, painter)
    cases = chosen_cases(options, options.side or painter.side, tuple(painter.loras))
    if not cases:
        message = f"{options.checkpoint} has no LoRA for {', '.join(options.only)}"
        raise EvaluationError(message)
    figures = report(cases, draw(painter, cases, preset=preset), options.out)
    if outlines := [c for c in cases if c.group == "outline"]:
        figures["speed"] = time_pictures(painter, outlines[0], preset)
    if few := [c for c in cases if c.lora == FEW_STEP]:
        figures["speed of few steps"] = time_pictures(painter, few[0], painter.preset(FEW_STEP))
    figures["run"] = {
        "cases": len(cases),
        "every": options.every,
        "steps": preset.steps,
        "guidance_scale": preset.guidance,
    }
    (options.out / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    return figures


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    diffusers_logging.set_verbosity_error()
    options = parse()
    try:
        figures = evaluate(options)
    except (EvaluationError, OSError) as error:
        logger.error("%s", error)
        return 2
    logger.info("%s", json.dumps(figures, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
