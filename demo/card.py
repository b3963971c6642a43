# SPDX-License-Identifier: Apache-2.0
"""`python -m demo.card`: write the evaluation's figures into CARD.md, next to their targets."""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import sys
from pathlib import Path
from typing import Any

logger = logging.getLogger("demo.card")

HERE = Path(__file__).parent
BEGIN, END = "<!-- figures: written by python -m demo.card -->", "<!-- end of figures -->"
PICTURES = ("outline", "details", "nouns", "scenes", "pairs", "bad-drawings", "256-px")

# group, figure, its meaning, its target (None: no target), whether more is better
ROWS: tuple[tuple[str, str, str, float | None, bool], ...] = (
    ("outline", "iou_mean", "outline: overlap (IoU) with the scribble's inside, mean", 0.92, True),
    ("outline", "iou_5th_percentile", "the same, 5th percentile", 0.80, True),
    ("outline", "iou_shape_unknown", "shapes of no known kind", 0.92, True),
    ("outline", "iou_pen_1.0", "thinnest pen (1 px)", 0.92, True),
    ("outline", "iou_pen_7.0", "thickest pen (7 px)", 0.92, True),
    ("outline", "iou_style_gaps", "with gaps in the line", 0.92, True),
    ("outline", "object_colour_right", "the object has the prompted colour", 0.97, True),
    ("outline", "background_colour_right", "the background has the prompted colour", 0.97, True),
    ("shades", "light_over_dark_by_25_levels", "light and dark shades differ by 25 levels or more", None, True),
    ("details", "visible", "drawn eyes, doors, windows, wheels, veins show", 0.80, True),
    ("details", "visible_by_chance", "the same measure on another picture (chance)", None, False),
    ("nouns", "pairs_over_12_levels_no_colour_said", "orange, ball, sun, clock differ on one circle", None, True),
    ("nouns", "pairs_over_12_levels_same_colour", "the same, all of them red", None, True),
    ("scenes", "recognised", "night, sea, snow, meadow, desert, sunset recognised", None, True),
    ("ground", "sky_and_ground_colours_right", "sky over ground, both in the prompted colours", None, True),
    ("pairs", "both_colours_right", "two objects, both in their own colours", 0.60, True),
    ("seeds", "levels_between_seeds_full_prompt", "levels between seeds, colour and scene named", None, True),
    ("seeds", "levels_between_seeds_short_prompt", "levels between seeds, only the noun named", None, True),
    ("scale 0", "makes_an_object", "conditioning scale 0 makes an object of the colour", None, True),
    ("empty prompt", "iou_mean", "empty prompt: outline filled (IoU)", None, True),
    ("bad drawings", "in_the_spirit", "bad drawings: the prompted colour where something was drawn", None, True),
    ("256 px", "iou_mean", "256 x 256: overlap, mean", None, True),
    ("256 px", "object_colour_right", "256 x 256: object colour right", None, True),
    ("192x128 px", "iou_mean", "192 x 128: overlap, mean", None, True),
    ("speed", "seconds", "seconds a picture, default steps, 128 px, two cores", 1.0, False),
)


def table(figures: dict[str, dict[str, Any]]) -> str:
    lines = ["| what | measured | target | |", "| --- | --- | --- | --- |"]
    for group, name, meaning, target, more in ROWS:
        value = figures[group][name]
        if target is None:
            lines.append(f"| {meaning} | {value} | | |")
            continue
        reached = value >= target if more else value <= target
        lines.append(f"| {meaning} | {value} | {'≥' if more else '≤'} {target} | {'yes' if reached else '**no**'} |")
    run = figures["run"]
    lines += ["", f"{run['cases']} pictures, {run['steps']} steps, guidance {run['guidance_scale']}."]
    return "\n".join(lines)


def replace_figures(card: str, text: str) -> str:
    before, rest = card.split(BEGIN, 1)
    _, after = rest.split(END, 1)
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


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
        shutil.copy(options.evaluation / f"{name}.png", HERE / "pictures" / f"{name}.png")
    shutil.copy(path, HERE / "figures.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
