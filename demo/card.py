# SPDX-License-Identifier: Apache-2.0
"""`python -m demo.card`: write the evaluation's figures into CARD.md, next to their targets, and draw its pictures."""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from demo.scenes import draw_scene
from demo.sheet import Cell, contact_sheet

logger = logging.getLogger("demo.card")

HERE = Path(__file__).parent
BEGIN, END = "<!-- figures: written by python -m demo.card -->", "<!-- end of figures -->"
WIDEST, HIGHEST = 1160, 1300  # pixels of a sheet in the repository
TRAINING_EXAMPLES = 24
PICTURES = (
    "outline",
    "details",
    "pairs",
    "triples",
    "faces",
    "stick-figures",
    "landscapes",
    "doodles",
    "thin-things",
    "nested",
    "scenes",
    "nouns",
    "bad-drawings",
    "styles",
    "few-step",
)

# group, figure, its meaning, its target (None: no target), whether more is better
ROWS: tuple[tuple[str, str, str, float | None, bool], ...] = (
    ("outline", "iou_mean", "outline: overlap (IoU) with the scribble's inside, mean", 0.95, True),
    ("outline", "iou_5th_percentile", "the same, 5th percentile", 0.87, True),
    ("outline", "iou_shape_unknown", "shapes of no known kind", None, True),
    ("outline", "iou_pen_1.0", "thinnest pen (1/128 of the side)", None, True),
    ("outline", "iou_pen_7.0", "thickest pen (7/128)", None, True),
    ("outline", "iou_style_gaps", "with gaps in the line", None, True),
    ("outline", "object_colour_right", "the object has the prompted colour", 0.98, True),
    ("outline", "background_colour_right", "the background has the prompted colour", 0.98, True),
    ("shades", "light_over_dark_by_25_levels", "light and dark shades differ by 25 levels or more", None, True),
    ("details", "visible", "drawn eyes, doors, windows, wheels, veins show", 0.92, True),
    ("details", "visible_by_chance", "the same measure on another picture (chance)", None, False),
    ("pairs", "all_colours_right", "two objects, both in their own colours", 0.80, True),
    ("triples", "all_colours_right", "three objects, all in their own colours", 0.60, True),
    ("faces", "visible_least", "faces: drawn parts that show, of the least visible sort", 0.80, True),
    ("faces", "named_parts_right", "faces: hair, hats and glasses in the prompted colour", None, True),
    (
        "stick figures",
        "visible_least",
        "stick figures: drawn parts that show, of the least visible sort",
        0.80,
        True,
    ),
    ("thin things", "visible", "spokes, whiskers, strings, rungs show", None, True),
    ("doodles", "visible", "open strokes show", None, True),
    ("nested", "visible", "things inside things: drawn parts that show", None, True),
    ("nested", "named_parts_right", "things inside things have the prompted colour", None, True),
    ("landscapes", "objects_right", "landscapes: parts in the prompted colour", None, True),
    ("faces", "visible_by_chance", "the measure of parts on another picture (chance)", None, False),
    ("nouns", "pairs_over_12_levels_no_colour_said", "orange, ball, sun, clock differ on one circle", None, True),
    ("nouns", "pairs_over_12_levels_same_colour", "the same, all of them red", None, True),
    ("scenes", "recognised", "night, sea, snow, meadow, desert, sunset recognised", None, True),
    ("ground", "sky_and_ground_colours_right", "sky over ground, both in the prompted colours", None, True),
    ("seeds", "levels_between_seeds_full_prompt", "levels between seeds, colour and scene named", None, True),
    ("seeds", "levels_between_seeds_short_prompt", "levels between seeds, only the noun named", None, True),
    ("scale 0", "makes_an_object", "conditioning scale 0 makes an object of the colour", None, True),
    ("empty prompt", "iou_mean", "empty prompt: outline filled (IoU)", None, True),
    ("bad drawings", "in_the_spirit", "bad drawings: the prompted colour where something was drawn", None, True),
    ("128 px", "iou_mean", "128 x 128: overlap, mean", None, True),
    ("128 px", "object_colour_right", "128 x 128: object colour right", None, True),
    ("192 px", "iou_mean", "192 x 192: overlap, mean", None, True),
    ("192 px", "object_colour_right", "192 x 192: object colour right", None, True),
    ("256x192 px", "iou_mean", "256 x 192: overlap, mean", None, True),
    ("few step", "iou_behind", "few-step LoRA: overlap below that of `quality`, mean", 0.03, False),
    ("few step", "colour_behind", "few-step LoRA: right colours below those of `quality`", 0.03, False),
    ("styles", "told_apart", "style LoRAs: style recognised by a classifier of painted pictures", 0.95, True),
    ("speed", "seconds", "seconds a picture, `quality`, 256 px, two cores", 1.0, False),
    ("speed of few steps", "seconds", "seconds a picture, few-step LoRA, 256 px, two cores", None, False),
)


def table(figures: dict[str, dict[str, Any]]) -> str:
    lines = ["| what | measured | target | |", "| --- | --- | --- | --- |"]
    for group, name, meaning, target, more in ROWS:
        value = figures.get(group, {}).get(name)
        if value is None:  # a checkpoint without LoRAs, or an evaluation of fewer cases
            continue
        if target is None:
            lines.append(f"| {meaning} | {value} | | |")
            continue
        reached = value >= target if more else value <= target
        lines.append(f"| {meaning} | {value} | {'≥' if more else '≤'} {target} | {'yes' if reached else '**no**'} |")
    run = figures["run"]
    which = "all cases" if run["every"] == 1 else f"the first of each group, one of {run['every']}"
    lines += ["", f"{run['cases']} pictures ({which}), {run['steps']} steps, guidance {run['guidance_scale']}."]
    return "\n".join(lines)


def replace_figures(card: str, text: str) -> str:
    before, rest = card.split(BEGIN, 1)
    _, after = rest.split(END, 1)
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def small_sheet(path: Path) -> Image.Image:
    """The first rows of a sheet in 256 colours, which is a third of the file."""
    sheet = Image.open(path).convert("RGB")
    width = min(sheet.width, WIDEST)
    small = sheet.resize((width, sheet.height * width // sheet.width), Image.Resampling.LANCZOS)
    return small.crop((0, 0, width, min(small.height, HIGHEST))).quantize(256, dither=Image.Dither.NONE)


def draw_training_examples(path: Path) -> None:
    """A sheet of the first scenes of a training with seed 1."""
    cells: list[Cell] = []
    for index in range(TRAINING_EXAMPLES):
        rng = np.random.default_rng([1, 0, index])
        scene = draw_scene(rng)
        cells.append((scene.scribble(rng), scene.picture, scene.caption(rng).text))
    contact_sheet(cells, path)


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(prog="python -m demo.card", description=__doc__)
    parser.add_argument("--evaluation", type=Path, default=HERE / "work" / "evaluation")
    options = parser.parse_args()
    path = options.evaluation / "figures.json"
    if not path.exists():
        logger.error("%s does not exist: run `python -m demo.evaluate` first", path)
        return 2
    card = HERE / "CARD.md"
    card.write_text(replace_figures(card.read_text(), table(json.loads(path.read_text()))))
    (HERE / "pictures").mkdir(exist_ok=True)
    for name in PICTURES:
        if (sheet := options.evaluation / f"{name}.png").exists():
            small_sheet(sheet).save(HERE / "pictures" / f"{name}.png", optimize=True)
    examples = HERE / "pictures" / "training.png"
    draw_training_examples(examples)
    small_sheet(examples).save(examples, optimize=True)
    shutil.copy(path, HERE / "figures.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
