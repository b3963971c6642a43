# SPDX-License-Identifier: Apache-2.0
"""Cases in which every drawn part counts: faces, stick figures, doodles, thin things and things inside things."""

from __future__ import annotations

from demo import backgrounds
from demo.evaluation.case import Case, Size, draw, plain_prompt, put, rng_of, wall_unlike
from demo.kind import KINDS
from demo.palette import BASE, colour, distance
from demo.pen import Pen
from demo.scenes import compose

TONES = ("red", "blue", "green", "purple", "orange", "pink")
NAMES: dict[str, tuple[str, ...]] = {
    "faces": ("face", "girl's face", "boy's face", "face", "bust"),
    "stick figures": ("person", "dancer"),
    "doodles": (
        *(k for k, v in KINDS.items() if v.family == "doodles" and v.weight >= 1),
        "letter A",
        "letter S",
        "number 4",
    ),
    "thin things": (
        "bicycle",
        "whole cat",
        "thin key",
        "scissors",
        "kite on a string",
        "fishing rod",
        "ladder",
        "railing",
        "mouse",
        "ant",
        "spider",
        "umbrella",
        "glasses",
        "tiger",
        "balloons",
        "net",
    ),
    "nested": tuple(k for k, v in KINDS.items() if v.family == "nested"),
}
PEN = Pen(2.0, 0.2, hides=True)


def part_cases(group: str, count: int, size: Size) -> list[Case]:
    """Upright objects of the group's kinds in turn, with all parts drawn, before a wall unlike all of them."""
    cases = []
    for index in range(count):
        rng = rng_of(20 + list(NAMES).index(group), index, size)
        name = NAMES[group][index % len(NAMES[group])]
        drawing = draw(name, rng)
        named = [p.fill for p in drawing if p.said and isinstance(p.fill, tuple)]
        far = [t for t in TONES if all(distance(BASE[t], rgb) > 90 for rgb in named)]
        tone = colour(far[int(rng.integers(len(far)))] if far else "gray")
        placed = put(drawing, KINDS[name].nouns[0], rng, size=size, tone=tone, turn=3.0)
        wall = wall_unlike(rng, placed.parts, [tone])
        scene = compose((placed,), backgrounds.plain(wall, size), size, says_background=True)
        scribble = scene.scribble(rng, pen=PEN)
        cases.append(Case(group, scene, scribble, plain_prompt(scene), index, labels={"noun": name}))
    return cases
