# SPDX-License-Identifier: Apache-2.0
"""Positions of drawings in the picture: one anywhere, two or three beside, above or in front of each other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from demo.geometry import Part, bend, draw_waves

if TYPE_CHECKING:
    from collections.abc import Sequence

Rng = np.random.Generator
Size = tuple[int, int]

# Shares of the arrangements of two and of three objects.
PAIRS = {"row": 0.6, "column": 0.2, "depth": 0.2}
TRIPLES = {"row": 0.55, "column": 0.1, "group": 0.35}


@dataclass(frozen=True, slots=True)
class Slot:
    """A place for one object, relative to the picture's size."""

    x: float
    y: float
    radius: float  # half of the object's largest side


def draw_arrangement(rng: Rng, count: int, size: Size) -> tuple[str, tuple[Slot, ...]]:
    """An arrangement's name, and its slots in the order of captions. Later slots are painted over earlier ones."""
    if count == 1:
        return "row", ()
    shares = PAIRS if count == 2 else TRIPLES
    name = str(rng.choice(list(shares), p=list(shares.values())))
    return name, ARRANGEMENTS[name](rng, count, size)


def row(rng: Rng, count: int, size: Size) -> tuple[Slot, ...]:
    """Beside each other, each with its share of the width."""
    shares = rng.uniform(0.7, 1.4, count)
    shares *= 0.96 / shares.sum()
    middles = 0.02 + np.cumsum(shares) - shares / 2
    width, height = np.array(size) / min(size)
    slots = []
    for x, share in zip(middles, shares, strict=True):
        radius = min(0.46 * share * width, 0.44 * height) * rng.uniform(0.86, 1.0)
        slack = max(0.0, 0.48 - radius / height)
        slots.append(Slot(float(x), float(0.5 + rng.uniform(-0.7, 0.7) * slack), float(radius)))
    return tuple(slots)


def column(rng: Rng, count: int, size: Size) -> tuple[Slot, ...]:
    """Above each other."""
    return tuple(Slot(s.y, s.x, s.radius) for s in row(rng, count, (size[1], size[0])))


def depth(rng: Rng, _count: int, _size: Size) -> tuple[Slot, ...]:
    """A small one in front of a large one, which stays visible by more than half."""
    side = rng.choice([-1, 1])
    behind = Slot(0.5 - side * rng.uniform(0.06, 0.12), rng.uniform(0.4, 0.46), rng.uniform(0.32, 0.38))
    front = Slot(0.5 + side * rng.uniform(0.16, 0.24), rng.uniform(0.68, 0.74), rng.uniform(0.17, 0.22))
    return front, behind


def group(rng: Rng, _count: int, _size: Size) -> tuple[Slot, ...]:
    """Two on one level and one above or below between them, from left to right."""
    side = rng.choice([-1, 1])
    radius = rng.uniform(0.19, 0.235, 3)
    return (
        Slot(0.25, 0.5 + side * rng.uniform(0.2, 0.25), radius[0]),
        Slot(0.5, 0.5 - side * rng.uniform(0.24, 0.26), radius[1]),
        Slot(0.75, 0.5 + side * rng.uniform(0.2, 0.25), radius[2]),
    )


ARRANGEMENTS = {"row": row, "column": column, "depth": depth, "group": group}


def place(
    drawing: Sequence[Part], size: Size, rng: Rng, *, slot: Slot | None, turn: float
) -> tuple[tuple[Part, ...], float]:
    """Turn, stretch, bend and move a drawing into the picture, into `slot` or anywhere. Also its pixels per unit."""
    angle = np.radians(rng.uniform(-turn, turn))
    c, s = np.cos(angle), np.sin(angle)
    matrix = np.array([[c, -s], [s, c]]).T @ np.diag([rng.uniform(0.84, 1.16), 1.0])
    waves, amount = draw_waves(rng), rng.uniform(0.0, 0.12)
    bent = [bend(p.points, waves, amount) @ matrix for p in drawing]
    points = np.concatenate(bent)
    low, high = points.min(0), points.max(0)
    half = (high - low) / 2
    if slot is None:
        unit, middle = anywhere(half, np.array(size), rng)
    else:  # the drawing fills its slot, however large it is in its own units
        unit, middle = slot.radius * min(size) / float(half.max()), np.array([slot.x * size[0], slot.y * size[1]])
    parts = tuple(replace(p, points=(b - (low + high) / 2) * unit + middle) for p, b in zip(drawing, bent, strict=True))
    return parts, float(unit)


def anywhere(
    half: npt.NDArray[np.float64], size: npt.NDArray[np.int_], rng: Rng
) -> tuple[float, npt.NDArray[np.float64]]:
    """Pixels per unit, and a middle where a drawing of this half width and height is inside the picture."""
    unit = size.min() * (rng.uniform(0.36, 0.47) if rng.random() < 0.45 else rng.uniform(0.28, 0.46))
    unit = min(unit, float((0.485 * size / half).min()))
    return unit, size / 2 + rng.uniform(-1, 1, 2) * np.maximum(0.0, 0.495 * size - half * unit)


def place_in_the_middle(drawing: Sequence[Part], size: Size) -> tuple[tuple[Part, ...], float]:
    """Place a portrait, always in the same position, so that a prompt without a scribble makes one clear object."""
    unit = 0.4 * min(size)
    middle = np.array(size) / 2
    return tuple(replace(p, points=p.points * unit + middle) for p in drawing), unit
