# SPDX-License-Identifier: Apache-2.0
"""Plants."""

from __future__ import annotations

import numpy as np

from demo.geometry import Part, arc, box, curve, ellipse, line, petals, polygon, smooth
from demo.kind import kind

Rng = np.random.Generator


@kind("tree", "oak", "apple tree", colours=("green",), home=("meadow",), weight=1.8, turn=4)
def tree(rng: Rng) -> list[Part]:
    crown = petals(int(rng.integers(5, 9)), 0.15) * [0.8, 0.68] + [0, -0.35]
    if rng.random() < 0.4:
        crown = ellipse(0, -0.35, 0.75, 0.7)
    trunk = polygon((-0.16, 0.15), (0.16, 0.15), (0.22, 1.05), (-0.22, 1.05))
    fruit = [Part(ellipse(x, y, 0.12), "tomato", is_detail=True) for x, y in ((-0.3, -0.5), (0.3, -0.55), (0.05, -0.1))]
    return [Part(trunk, "wood"), Part(crown), *(fruit if rng.random() < 0.35 else [])]


@kind(
    "fir",
    "pine tree",
    "christmas tree",
    "fir tree",
    colours=("green",),
    home=("snow", "forest"),
    weight=1.2,
    turn=3,
)
def fir(rng: Rng) -> list[Part]:
    crown = polygon(
        (0, -1.05),
        (0.42, -0.4),
        (0.22, -0.4),
        (0.62, 0.2),
        (0.35, 0.2),
        (0.82, 0.8),
        (-0.82, 0.8),
        (-0.35, 0.2),
        (-0.62, 0.2),
        (-0.22, -0.4),
        (-0.42, -0.4),
    )
    if rng.random() < 0.4:
        crown = polygon((0, -1.05), (0.75, 0.8), (-0.75, 0.8))
    return [Part(box(-0.15, 0.75, 0.15, 1.1), "wood"), Part(crown)]


@kind("flower", "daisy", "blossom", home=("meadow",), weight=1.8, turn=10)
def flower(rng: Rng) -> list[Part]:
    count = int(rng.integers(5, 8))
    has_stem = rng.random() < 0.65
    scale, lift = (0.6, -0.42) if has_stem else (1.0, 0.0)
    head = petals(count, rng.uniform(0.3, 0.42)) * scale + [0, lift]
    parts = []
    if has_stem:
        parts = [
            Part(curve((0, lift), (rng.uniform(-0.1, 0.1), 0.5), (0, 1.1)), "leaf", closed=False, width=0.1),
            Part(smooth((0.02, 0.7), (0.3, 0.3), (0.62, 0.28), (0.35, 0.68)), "leaf"),
        ]
    middle = "gold" if rng.random() < 0.7 else "choco"
    return [*parts, Part(head), Part(ellipse(0, lift, 0.34 * scale), middle, is_detail=True)]


@kind("tulip", colours=("red", "pink", "yellow", "purple"), home=("meadow",), turn=6)
def tulip(_rng: Rng) -> list[Part]:
    cup = polygon(
        (-0.5, -0.95),
        (-0.22, -0.6),
        (0, -1.0),
        (0.22, -0.6),
        (0.5, -0.95),
        (0.45, -0.2),
        (0, 0.05),
        (-0.45, -0.2),
    )
    leaf = smooth((0.02, 0.95), (0.12, 0.4), (0.5, 0.0), (0.4, 0.6))
    return [Part(line((0, 0), (0, 1.05)), "leaf", closed=False, width=0.1), Part(leaf, "leaf"), Part(cup)]


@kind("leaf", colours=("green", "red", "orange"), weight=1.5, turn=180)
def leaf(_rng: Rng) -> list[Part]:
    body = smooth((-1, 0.05), (-0.4, -0.48), (0.4, -0.42), (1, 0), (0.4, 0.42), (-0.4, 0.48))
    veins = [line((-0.85, 0.03), (0.95, 0))] + [
        line((x, 0.02), (x + 0.3, s * 0.3)) for x in (-0.35, 0.15) for s in (-1, 1)
    ]
    return [Part(body)] + [Part(vein, None, closed=False, is_detail=True) for vein in veins]


@kind("mushroom", "toadstool", colours=("red", "brown"), home=("forest", "meadow"), weight=1.4, turn=5)
def mushroom(_rng: Rng) -> list[Part]:
    cap = smooth((-1, 0.1), (-0.75, -0.55), (0, -0.9), (0.75, -0.55), (1, 0.1), (0, 0.18))
    spots = [(-0.42, -0.3, 0.17), (0.1, -0.55, 0.16), (0.5, -0.2, 0.16)]
    return [Part(smooth((-0.28, 0.1), (0.28, 0.1), (0.36, 0.95), (-0.36, 0.95)), "cream"), Part(cap)] + [
        Part(ellipse(x, y, r), "snow", is_detail=True) for x, y, r in spots
    ]


@kind("cactus", colours=("green",), home=("desert",), weight=1.2, turn=3)
def cactus(_rng: Rng) -> list[Part]:
    stem = smooth((-0.28, 1), (-0.28, -0.75), (0, -1.02), (0.28, -0.75), (0.28, 1))
    arms = [curve((0.2, 0.25), (0.68, 0.15), (0.72, -0.4)), curve((-0.2, 0.5), (-0.66, 0.38), (-0.68, -0.1))]
    lines = [line((x, -0.6), (x, 0.8)) for x in (-0.08, 0.1)]
    return [*(Part(a, "body", closed=False, width=0.24) for a in arms), Part(stem)] + [
        Part(x, None, closed=False, is_detail=True) for x in lines
    ]


@kind("palm", "palm tree", colours=("green",), home=("beach", "desert"), turn=5)
def palm(rng: Rng) -> list[Part]:
    leaves = [
        smooth((0, -0.5), (x * 0.5, y - 0.3), (x, y), (x * 0.55, y - 0.05))
        for x, y in ((-0.95, -0.35), (0.95, -0.35), (-0.75, -0.85), (0.75, -0.85), (-0.6, 0.1), (0.6, 0.1))
    ]
    trunk = curve((0, -0.45), (rng.uniform(-0.15, 0.15), 0.3), (0, 1.05))
    return [Part(trunk, "wood", closed=False, width=0.2), *(Part(x) for x in leaves)]


@kind("grass", "bush", "shrub", colours=("green",), home=("meadow",), turn=0)
def bush(rng: Rng) -> list[Part]:
    ring = petals(int(rng.integers(6, 10)), 0.18) * [1.0, 0.65]
    ring[:, 1] = np.minimum(ring[:, 1], 0.42)
    berries = [Part(ellipse(x, y, 0.1), "tomato", is_detail=True) for x, y in ((-0.45, 0), (0.1, -0.25), (0.5, 0.05))]
    return [
        Part(ring),
        *(berries if rng.random() < 0.4 else [Part(arc(0, 0, 0.4, 0.3, 200, 340), None, closed=False, is_detail=True)]),
    ]
