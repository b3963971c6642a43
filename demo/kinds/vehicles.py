# SPDX-License-Identifier: Apache-2.0
"""Things that drive, float and fly."""

from __future__ import annotations

import numpy as np

from demo.geometry import Part, box, ellipse, line, polygon, smooth
from demo.kind import kind

Rng = np.random.Generator


def wheels(*xs: float, y: float = 0.5, size: float = 0.26) -> list[Part]:
    parts = []
    for x in xs:
        parts += [
            Part(ellipse(x, y, size), "coal"),
            Part(ellipse(x, y, size * 0.45), "metal", is_detail=True, is_drawn=False),
        ]
    return parts


@kind("car", "taxi", "sports car", home=("road", "meadow"), weight=2.0, turn=4)
def car(rng: Rng) -> list[Part]:
    body = polygon(
        (-1.1, 0.45),
        (-1.1, 0.05),
        (-0.65, -0.05),
        (-0.38, -0.5),
        (0.4, -0.5),
        (0.7, -0.05),
        (1.1, 0.08),
        (1.1, 0.45),
    )
    if rng.random() < 0.4:
        body = smooth(
            (-1.1, 0.45),
            (-1.08, 0.0),
            (-0.65, -0.1),
            (-0.3, -0.55),
            (0.35, -0.55),
            (0.75, -0.08),
            (1.12, 0.1),
            (1.08, 0.45),
        )
    panes = [
        polygon((-0.48, -0.06), (-0.3, -0.38), (-0.04, -0.38), (-0.04, -0.06)),
        polygon((0.08, -0.06), (0.08, -0.38), (0.32, -0.38), (0.52, -0.06)),
    ]
    return [Part(body), *(Part(p, "glass", is_detail=True) for p in panes), *wheels(-0.6, 0.6)]


@kind("bus", "van", colours=("yellow", "red"), home=("road",), turn=3)
def bus(_rng: Rng) -> list[Part]:
    panes = [box(x, -0.4, x + 0.36, 0.0) for x in (-0.88, -0.4, 0.08, 0.56)]
    return [
        Part(box(-1.1, -0.62, 1.1, 0.5)),
        *(Part(p, "glass", is_detail=True) for p in panes),
        *wheels(-0.62, 0.62, size=0.24),
    ]


@kind("truck", "lorry", "fire truck", home=("road",), turn=3)
def truck(_rng: Rng) -> list[Part]:
    cab = polygon((0.42, -0.3), (0.85, -0.3), (1.12, 0.1), (1.12, 0.5), (0.42, 0.5))
    return [
        Part(box(-1.1, -0.65, 0.36, 0.5), "light"),
        Part(cab),
        Part(polygon((0.54, -0.16), (0.8, -0.16), (0.95, 0.1), (0.54, 0.1)), "glass", is_detail=True),
        *wheels(-0.65, 0.0, 0.75, size=0.23),
    ]


@kind("train", "locomotive", colours=("red", "green", "black"), turn=2)
def train(_rng: Rng) -> list[Part]:
    return [
        Part(box(0.45, -0.85, 0.68, -0.2), "coal"),
        Part(box(-1.05, -0.75, -0.25, 0.45)),
        Part(box(-0.3, -0.25, 1.0, 0.45), "dark"),
        Part(box(-0.88, -0.55, -0.45, -0.12), "glass", is_detail=True),
        *wheels(-0.7, 0.05, 0.65, y=0.5, size=0.24),
    ]


@kind("boat", "ship", "sailboat", home=("sea",), weight=1.8, turn=5)
def boat(rng: Rng) -> list[Part]:
    hull = polygon((-1.05, 0.35), (1.05, 0.35), (0.7, 0.9), (-0.7, 0.9))
    sails = [
        Part(polygon((0.08, -1.0), (0.85, 0.2), (0.08, 0.2)), "snow"),
        Part(polygon((-0.08, -0.8), (-0.08, 0.2), (-0.65, 0.2)), "snow"),
    ]
    return [
        Part(line((0, -1.05), (0, 0.4)), "wood", closed=False, width=0.08),
        *sails[: int(rng.integers(1, 3))],
        Part(hull),
    ]


@kind("plane", "airplane", "aeroplane", "jet", home=("sky",), colours=("white", "red", "blue"), turn=15)
def plane(_rng: Rng) -> list[Part]:
    body = smooth((-1.1, 0.05), (-0.8, -0.22), (0.6, -0.2), (1.1, -0.05), (0.6, 0.22), (-0.8, 0.25))
    panes = [Part(ellipse(x, -0.05, 0.09), "glass", is_detail=True) for x in (-0.6, -0.25, 0.1)]
    return [
        Part(polygon((0.7, -0.1), (1.1, -0.7), (1.15, -0.05)), "dark"),
        Part(body),
        *panes,
        Part(polygon((-0.2, 0.1), (0.3, 0.1), (0.55, 0.75), (0.25, 0.75)), "dark"),
    ]


@kind("rocket", "spaceship", home=("space", "night"), colours=("white", "red", "gray"), weight=1.5, turn=25)
def rocket(rng: Rng) -> list[Part]:
    body = smooth((0, -1.1), (0.34, -0.55), (0.38, 0.55), (-0.38, 0.55), (-0.34, -0.55))
    fins = [polygon((s * 0.34, 0.1), (s * 0.8, 0.75), (s * 0.34, 0.6)) for s in (-1, 1)]
    fire = Part(smooth((-0.22, 0.6), (0.22, 0.6), (0, 1.15)), "flame", is_drawn=bool(rng.random() < 0.6))
    return [
        fire,
        *(Part(f, "tomato") for f in fins),
        Part(body),
        Part(ellipse(0, -0.25, 0.2), "glass", is_detail=True),
    ]


@kind("hot air balloon", "airship", home=("sky",), weight=1.0, turn=4)
def hot_air_balloon(_rng: Rng) -> list[Part]:
    stripe = smooth((-0.12, -1.0), (0.12, -1.0), (0.28, -0.35), (0.08, 0.32), (-0.08, 0.32), (-0.28, -0.35))
    ropes = [line((-0.3, 0.25), (-0.2, 0.75)), line((0.3, 0.25), (0.2, 0.75))]
    body = smooth((0, -1.05), (0.65, -0.8), (0.75, -0.3), (0.3, 0.35), (-0.3, 0.35), (-0.75, -0.3), (-0.65, -0.8))
    return [
        *(Part(r, "wood", closed=False, width=0.05) for r in ropes),
        Part(body),
        Part(stripe, "light", is_detail=True),
        Part(box(-0.25, 0.7, 0.25, 1.08), "wood"),
    ]


@kind("submarine", home=("sea",), colours=("yellow",), turn=5)
def submarine(_rng: Rng) -> list[Part]:
    panes = [Part(ellipse(x, 0.15, 0.16), "glass", is_detail=True) for x in (-0.5, 0.0, 0.5)]
    return [
        Part(box(-0.28, -0.7, 0.28, -0.2)),
        Part(smooth((-1.1, 0.15), (-0.7, -0.3), (0.7, -0.3), (1.1, 0.15), (0.7, 0.6), (-0.7, 0.6))),
        *panes,
    ]
