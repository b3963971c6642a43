# SPDX-License-Identifier: Apache-2.0
"""Buildings and landscape."""

from __future__ import annotations

import numpy as np

from demo.geometry import Part, box, ellipse, line, polygon
from demo.kind import kind

Rng = np.random.Generator


@kind(
    "house",
    "home",
    "cottage",
    "hut",
    colours=("white", "red", "yellow", "brown"),
    home=("meadow", "snow"),
    weight=2.2,
    turn=3,
)
def house(rng: Rng) -> list[Part]:
    side = rng.choice([-1, 1])
    roof = Part(polygon((-1.05, -0.12), (0, -0.98), (1.05, -0.12)), "roof" if rng.random() < 0.7 else "dark")
    door = Part(box(side * 0.38 - 0.18, 0.25, side * 0.38 + 0.18, 0.9), "wood", is_detail=True)
    window = Part(
        box(-side * 0.4 - 0.22, 0.12, -side * 0.4 + 0.22, 0.52),
        "lamp" if rng.random() < 0.5 else "glass",
        is_detail=True,
    )
    chimney = [Part(box(0.42, -1.0, 0.66, -0.4), "roof")] if rng.random() < 0.4 else []
    return [*chimney, Part(box(-0.85, -0.15, 0.85, 0.9)), roof, door, window]


@kind("castle", "fortress", colours=("gray", "brown", "pink"), home=("meadow", "night"), weight=1.2, turn=2)
def castle(_rng: Rng) -> list[Part]:
    teeth = [
        (-1.0, -0.85),
        (-0.72, -0.85),
        (-0.72, -0.6),
        (-0.42, -0.6),
        (-0.42, -0.2),
        (-0.15, -0.2),
        (-0.15, -0.42),
        (0.15, -0.42),
        (0.15, -0.2),
        (0.42, -0.2),
        (0.42, -0.6),
        (0.72, -0.6),
        (0.72, -0.85),
        (1.0, -0.85),
        (1.0, 0.9),
        (-1.0, 0.9),
    ]
    gate = box(-0.25, 0.35, 0.25, 0.9)
    return [
        Part(polygon(*teeth)),
        Part(gate, "wood", is_detail=True),
        *(Part(box(x - 0.13, -0.3, x + 0.13, 0.05), "lamp", is_detail=True) for x in (-0.7, 0.7)),
    ]


@kind("tower", "lighthouse", "skyscraper", home=("sea", "sunset"), turn=2)
def tower(_rng: Rng) -> list[Part]:
    stripes = [
        polygon((-0.37, -0.2), (0.37, -0.2), (0.41, 0.1), (-0.41, 0.1)),
        polygon((-0.45, 0.45), (0.45, 0.45), (0.49, 0.75), (-0.49, 0.75)),
    ]
    return [
        Part(polygon((-0.32, -0.55), (0.32, -0.55), (0.52, 1.0), (-0.52, 1.0))),
        Part(polygon((-0.45, -0.75), (0, -1.12), (0.45, -0.75)), "roof"),
        Part(box(-0.3, -0.78, 0.3, -0.5), "lamp"),
        *(Part(s, "snow", is_detail=True) for s in stripes),
    ]


@kind("tent", "teepee", home=("forest", "night"), turn=3)
def tent(_rng: Rng) -> list[Part]:
    return [
        Part(polygon((0, -0.75), (1.1, 0.75), (-1.1, 0.75))),
        Part(polygon((0, -0.2), (0.36, 0.75), (-0.36, 0.75)), "choco", is_detail=True),
    ]


@kind(
    "mountain",
    "mountains",
    "hill",
    "volcano",
    colours=("gray", "brown", "blue"),
    home=("sky",),
    weight=1.2,
    turn=2,
)
def mountain(rng: Rng) -> list[Part]:
    peak = rng.uniform(-0.3, 0.3)
    cap = polygon(
        (peak, -0.9),
        (peak * 0.6 + 0.36, -0.28),
        (peak + 0.1, -0.42),
        (peak - 0.08, -0.22),
        (peak * 0.6 - 0.36, -0.3),
    )
    return [Part(polygon((peak, -0.9), (1.15, 0.85), (-1.15, 0.85))), Part(cap, "snow", is_detail=True)]


@kind("church", "chapel", colours=("white", "gray"), home=("meadow", "snow"), turn=2)
def church(_rng: Rng) -> list[Part]:
    return [
        Part(box(-0.9, -0.05, 0.35, 0.9)),
        Part(polygon((-1.0, -0.05), (-0.3, -0.6), (0.4, -0.05)), "roof"),
        Part(box(0.3, -0.4, 0.85, 0.9), "light"),
        Part(polygon((0.22, -0.4), (0.58, -1.1), (0.93, -0.4)), "roof"),
        Part(box(-0.5, 0.35, -0.12, 0.9), "wood", is_detail=True),
        Part(ellipse(0.58, 0.05, 0.16), "lamp", is_detail=True),
    ]


@kind("door", "gate", turn=2)
def door(_rng: Rng) -> list[Part]:
    return [
        Part(box(-0.58, -1, 0.58, 1)),
        Part(box(-0.34, -0.75, 0.34, -0.1), "light", is_detail=True),
        Part(ellipse(0.38, 0.15, 0.11), "gold", is_detail=True),
    ]


@kind("window", "picture frame", turn=2)
def window(_rng: Rng) -> list[Part]:
    return [
        Part(box(-0.8, -0.9, 0.8, 0.9)),
        Part(box(-0.62, -0.72, 0.62, 0.72), "glass", is_detail=True),
        Part(line((0, -0.72), (0, 0.72)), "body", closed=False, is_detail=True, width=0.1),
        Part(line((-0.62, 0), (0.62, 0)), "body", closed=False, is_detail=True, width=0.1),
    ]


@kind("fence", "bench", colours=("brown", "white"), home=("meadow",), turn=2)
def fence(_rng: Rng) -> list[Part]:
    bars = [
        polygon((x - 0.17, -0.5), (x, -0.75), (x + 0.17, -0.5), (x + 0.17, 0.75), (x - 0.17, 0.75))
        for x in (-0.8, -0.27, 0.27, 0.8)
    ]
    return [
        Part(box(-1.1, -0.3, 1.1, -0.05), "dark"),
        Part(box(-1.1, 0.25, 1.1, 0.5), "dark"),
        *(Part(b) for b in bars),
    ]
