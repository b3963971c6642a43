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
from demo.geometry import bend, draw_waves
from demo.kind import KINDS
from demo.pen import Pen, scribble

HERE = Path(__file__).parent
SIDE = 512
DRAWN_AT = 2 * SIDE  # drawn at twice the size, for soft strokes

# kind, seed of its drawing, prompt, seed of its picture
EXAMPLES: tuple[tuple[str, int, str, int], ...] = (
    ("house", 3, "a red house on green grass under a blue sky", 3),
    ("fish", 1, "an orange fish in the sea", 2),
    ("star", 2, "a yellow star at night", 3),
    ("mushroom", 1, "a red mushroom in a meadow", 4),
    ("cat", 4, "a purple cat on a yellow background", 2),
    ("car", 2, "a blue car in the desert", 2),
)


def draw_example(name: str, seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    unit, waves = DRAWN_AT * 0.4, draw_waves(rng)
    parts = [
        replace(part, points=bend(part.points, waves, 0.03) * unit + DRAWN_AT / 2) for part in KINDS[name].draw(rng)
    ]
    strokes = scribble([parts], Pen(2.2, 0.25), (DRAWN_AT, DRAWN_AT), rng)
    return Image.fromarray(255 - strokes).resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def main() -> int:
    folder = HERE / "examples"
    folder.mkdir(exist_ok=True)
    entries = []
    for name, drawing_seed, prompt, seed in EXAMPLES:
        draw_example(name, drawing_seed).save(folder / f"{name}.png", optimize=True)
        entries.append(json.dumps({"file": f"{name}.png", "prompt": prompt, "seed": seed}))
    (folder / "examples.json").write_text("[\n  " + ",\n  ".join(entries) + "\n]\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
