# SPDX-License-Identifier: Apache-2.0
"""`python -m demo.example_drawings`: draw the scribbles in `examples/`, black on white."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

import demo.kinds  # noqa: F401  fills KINDS
from demo.geometry import Part, bend, draw_waves
from demo.kind import KINDS
from demo.landscapes import mountains, thing
from demo.pen import Pen, scribble

HERE = Path(__file__).parent
SIDE = 512
DRAWN_AT = 2 * SIDE  # drawn at twice the size, for soft strokes

# What is drawn, the seed of its drawing, prompt, and the seed of its picture. Kinds stand from left to right.
EXAMPLES: tuple[tuple[str, tuple[str, ...], int, str, int], ...] = (
    ("house", ("house",), 3, "a red house on green grass under a blue sky", 3),
    ("fish", ("fish",), 1, "an orange fish in the sea", 2),
    ("face", ("face",), 129, "a smiling face with red hair and green eyes on a yellow background", 1),
    ("fruit", ("apple", "pear"), 2, "a red apple and a green pear on a white background", 1),
    ("mountains", (), 5, "gray mountains with snow on top and a yellow sun under a blue sky", 1),
    ("bicycle", ("bicycle",), 0, "a red bicycle on a road", 1),
    ("star", ("star",), 2, "a yellow star at night", 3),
    ("cat", ("cat",), 4, "a purple cat on a yellow background", 2),
)


def draw_example(kinds: tuple[str, ...], seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    size = (DRAWN_AT, DRAWN_AT)
    objects = [stand(name, index, len(kinds), rng) for index, name in enumerate(kinds)] or draw_mountains(rng)
    strokes = scribble(objects, Pen(2.2, 0.25, hides=True), size, rng)
    return Image.fromarray(255 - strokes).resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def stand(name: str, index: int, count: int, rng: np.random.Generator) -> list[Part]:
    """A kind in its share of the width, bent a little."""
    waves, parts = draw_waves(rng), KINDS[name].draw(rng)
    largest = max(1.15, *(float(np.abs(part.points).max()) for part in parts))  # hair is outside of the unit square
    unit = DRAWN_AT * (0.4 if count == 1 else 0.46 / count) * 1.15 / largest
    middle = np.array([(index + 0.5) / count, 0.5]) * DRAWN_AT
    return [replace(part, points=bend(part.points, waves, 0.03) * unit + middle) for part in parts]


def draw_mountains(rng: np.random.Generator) -> list[tuple[Part, ...]]:
    """A sun behind a ridge from edge to edge."""
    size = (DRAWN_AT, DRAWN_AT)
    return [thing(rng, ("sun",), (0.5, 0.26), 0.15, size, [])[1], mountains(rng, 0.72, size, [])[1]]


def main() -> int:
    folder = HERE / "examples"
    folder.mkdir(exist_ok=True)
    entries = []
    for name, kinds, drawing_seed, prompt, seed in EXAMPLES:
        draw_example(kinds, drawing_seed).save(folder / f"{name}.png", optimize=True)
        entries.append(json.dumps({"file": f"{name}.png", "prompt": prompt, "seed": seed}))
    (folder / "examples.json").write_text("[\n  " + ",\n  ".join(entries) + "\n]\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
