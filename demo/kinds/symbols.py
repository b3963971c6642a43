# SPDX-License-Identifier: Apache-2.0
"""Plain shapes and symbols in any rotation."""

from __future__ import annotations

import numpy as np

from demo.geometry import Part, blob, box, curve, ellipse, petals, polygon, smooth, star
from demo.kind import kind

Rng = np.random.Generator


@kind("square", "block", "box shape", weight=1.2, turn=45)
def square(_rng: Rng) -> list[Part]:
    return [Part(box(-0.85, -0.85, 0.85, 0.85))]


@kind("rectangle", "brick", "plank", turn=90)
def rectangle(rng: Rng) -> list[Part]:
    return [Part(box(-1, -rng.uniform(0.35, 0.65), 1, 0.5))]


@kind("triangle", weight=1.2, turn=30)
def triangle(rng: Rng) -> list[Part]:
    return [Part(polygon((rng.uniform(-0.3, 0.3), -0.95), (0.98, 0.8), (-0.98, 0.8)))]


@kind("diamond", "gem", "crystal", turn=8, colours=("cyan", "blue", "pink"))
def diamond(rng: Rng) -> list[Part]:
    if rng.random() < 0.5:
        return [Part(polygon((0, -1), (0.75, 0), (0, 1), (-0.75, 0)))]
    lines = [polygon((-0.4, -0.25), (0.4, -0.25), (0, 0.9))]
    body = polygon((-0.55, -0.7), (0.55, -0.7), (1, -0.25), (0, 0.9), (-1, -0.25))
    return [Part(body), *(Part(face, "light", is_detail=True) for face in lines)]


@kind("hexagon", turn=30)
def hexagon(rng: Rng) -> list[Part]:
    count = int(rng.integers(5, 9))
    angle = np.arange(count) * 2 * np.pi / count
    return [Part(polygon(*zip(np.cos(angle), np.sin(angle), strict=True)))]


@kind("star", colours=("yellow",), home=("night",), weight=1.6, turn=30)
def five_star(rng: Rng) -> list[Part]:
    return [Part(star(int(rng.choice([5, 5, 5, 6, 4])), rng.uniform(0.4, 0.56)))]


@kind("heart", "love", colours=("red", "pink"), weight=1.4, turn=20)
def heart(_rng: Rng) -> list[Part]:
    t = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) / 16
    return [Part(np.stack([np.sin(t) ** 3, y], axis=1))]


@kind("egg", "oval", "ellipse", colours=("white", "brown"), turn=40)
def egg(_rng: Rng) -> list[Part]:
    return [Part(smooth((0, -1), (0.55, -0.4), (0.7, 0.25), (0, 0.85), (-0.7, 0.25), (-0.55, -0.4)))]


@kind("arrow", turn=180)
def arrow(_rng: Rng) -> list[Part]:
    return [Part(polygon((-1, -0.25), (0.2, -0.25), (0.2, -0.65), (1, 0), (0.2, 0.65), (0.2, 0.25), (-1, 0.25)))]


@kind("cross", "plus", turn=45)
def cross(rng: Rng) -> list[Part]:
    w = rng.uniform(0.25, 0.38)
    return [
        Part(
            polygon(
                (-w, -1),
                (w, -1),
                (w, -w),
                (1, -w),
                (1, w),
                (w, w),
                (w, 1),
                (-w, 1),
                (-w, w),
                (-1, w),
                (-1, -w),
                (-w, -w),
            )
        )
    ]


@kind("cloud", colours=("white", "gray"), home=("sky",), weight=1.3, turn=4)
def cloud(rng: Rng) -> list[Part]:
    count = int(rng.integers(5, 8))
    ring = petals(count, rng.uniform(0.15, 0.25)) * [1.05, rng.uniform(0.5, 0.65)]
    if rng.random() < 0.5:
        ring[:, 1] = np.minimum(ring[:, 1], 0.32)
    return [Part(ring)]


@kind("lightning", "lightning bolt", "flash", colours=("yellow",), home=("night",))
def lightning(_rng: Rng) -> list[Part]:
    return [Part(polygon((0.15, -1), (-0.6, 0.15), (-0.08, 0.15), (-0.3, 1), (0.6, -0.25), (0.08, -0.25), (0.5, -1)))]


@kind("drop", "water drop", "tear", colours=("blue", "cyan"))
def drop(_rng: Rng) -> list[Part]:
    return [
        Part(
            smooth(
                (0, -1.05),
                (0.28, -0.35),
                (0.62, 0.3),
                (0.36, 0.8),
                (-0.36, 0.8),
                (-0.62, 0.3),
                (-0.28, -0.35),
            )
        )
    ]


@kind("flame", "fire", colours=("orange", "red"), home=("night",), turn=5)
def flame(_rng: Rng) -> list[Part]:
    outer = smooth(
        (0.1, -1.05),
        (0.3, -0.45),
        (0.6, -0.35),
        (0.66, 0.3),
        (0.3, 0.85),
        (-0.3, 0.85),
        (-0.66, 0.3),
        (-0.45, -0.35),
    )
    inner = smooth((0, -0.2), (0.3, 0.3), (0.15, 0.7), (-0.15, 0.7), (-0.3, 0.3))
    return [Part(outer), Part(inner, "lamp", is_detail=True)]


@kind("rainbow", colours=("red",), home=("sky", "meadow"), turn=0)
def rainbow(_rng: Rng) -> list[Part]:
    parts = []
    for radius, fill in ((1.1, "body"), (0.92, "gold"), (0.74, "leaf"), (0.56, "sky"), (0.38, "hole")):
        half = ellipse(0, 0.4, radius, radius * 1.05)
        half[:, 1] = np.minimum(half[:, 1], 0.4)
        parts.append(Part(half, fill, is_detail=fill != "body"))
    return parts


@kind("snowflake", colours=("white", "cyan"), home=("snow", "night"), turn=30)
def snowflake(_rng: Rng) -> list[Part]:
    return [Part(star(6, 0.42))]


@kind("ribbon", "rope", "snake", "worm", turn=180, colours=("green", "red"))
def ribbon(rng: Rng) -> list[Part]:
    """A thick line, drawn as one stroke."""
    xs = np.linspace(-1, 1, int(rng.integers(4, 7)))
    path = curve(*zip(xs, rng.uniform(-0.5, 0.5, len(xs)), strict=True))
    return [Part(path, "body", closed=False, width=rng.uniform(0.12, 0.2))]


@kind("blob", "shape", "thing", "splash", turn=180, weight=1.5)
def free(rng: Rng) -> list[Part]:
    return [Part(blob(rng))]
