# SPDX-License-Identifier: Apache-2.0
"""Closed and open curves in unit coordinates (x right, y down, about -1 to 1), and parts made from them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from demo.palette import RGB

Points = npt.NDArray[np.float64]  # (N, 2)
Wave = npt.NDArray[np.float64]  # (5,): frequencies along x and y, phase, amplitudes along x and y
Pair = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Part:
    """One painted area or line. `fill` is "body", "dark", "light", a material's name, a colour, or None."""

    points: Points
    fill: str | RGB | None = "body"
    closed: bool = True
    is_detail: bool = False
    has_ink: bool = True
    is_drawn: bool = True  # whether it may appear in the scribble
    width: float = 0.0  # width of an open line that is painted as a tube; 0: an ink line
    said: str = ""  # what captions say of it after "with", such as "green eyes"; parts of one thing say the same


def flipped(part: Part, side: int) -> Part:
    """The part, or its mirror image for a side of -1."""
    return replace(part, points=part.points * [side, 1])


def ellipse(cx: float, cy: float, rx: float, ry: float | None = None, *, turn: float = 0.0) -> Points:
    angle = np.linspace(0, 2 * np.pi, 44, endpoint=False)
    x, y = rx * np.cos(angle), (rx if ry is None else ry) * np.sin(angle)
    c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    return np.stack([cx + c * x - s * y, cy + s * x + c * y], axis=1)


def arc(cx: float, cy: float, rx: float, ry: float, start: float, stop: float) -> Points:
    """An open arc. Degrees go clockwise from the right, because y points down."""
    angle = np.radians(np.linspace(start, stop, 20))
    return np.stack([cx + rx * np.cos(angle), cy + ry * np.sin(angle)], axis=1)


def polygon(*corners: Pair) -> Points:
    return densify(np.array(corners, dtype=float), closed=True)


def line(*corners: Pair) -> Points:
    return densify(np.array(corners, dtype=float), closed=False)


def box(x0: float, y0: float, x1: float, y1: float) -> Points:
    return polygon((x0, y0), (x1, y0), (x1, y1), (x0, y1))


def densify(corners: Points, *, closed: bool, step: float = 0.09) -> Points:
    """A polygon with points along its edges, so that bending the points bends the edges."""
    ends = np.roll(corners, -1, axis=0) if closed else corners[1:]
    pieces = []
    for start, end in zip(corners, ends, strict=False):
        count = max(1, int(np.hypot(*(end - start)) / step))
        pieces.append(start + (end - start) * np.linspace(0, 1, count, endpoint=False)[:, None])
    if not closed:
        pieces.append(corners[-1:])
    return np.concatenate(pieces)


def smooth(*corners: Pair) -> Points:
    """A closed Catmull-Rom curve through the corners."""
    p1 = np.array(corners, dtype=float)
    p0, p2, p3 = np.roll(p1, 1, axis=0), np.roll(p1, -1, axis=0), np.roll(p1, -2, axis=0)
    return _catmull_rom(p0, p1, p2, p3)


def curve(*corners: Pair) -> Points:
    """An open Catmull-Rom curve through the corners."""
    p = np.array(corners, dtype=float)
    p = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    return np.concatenate([_catmull_rom(p[:-3], p[1:-2], p[2:-1], p[3:]), p[-2:-1]])


def _catmull_rom(p0: Points, p1: Points, p2: Points, p3: Points) -> Points:
    t = np.linspace(0, 1, 8, endpoint=False)[None, :, None]
    a, b, c, d = (p[:, None, :] for p in (p0, p1, p2, p3))
    points: Points = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    return points.reshape(-1, 2)


def star(points: int, inner: float, *, outer: float = 1.0, turn: float = -90.0) -> Points:
    angle = np.radians(turn) + np.arange(2 * points) * np.pi / points
    radius = np.where(np.arange(2 * points) % 2 == 0, outer, inner)
    return densify(np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1), closed=True)


def petals(count: int, depth: float) -> Points:
    angle = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    radius = 1 - depth + depth * np.abs(np.cos(count * angle / 2))
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def blob(rng: np.random.Generator, *, corners: int = 0) -> Points:
    """A free shape: a ring of random radii, smooth or with straight edges."""
    count = corners or int(rng.integers(4, 10))
    angle = (np.arange(count) + rng.uniform(-0.3, 0.3, count)) * 2 * np.pi / count + rng.uniform(0, 6.28)
    radius = rng.uniform(0.5 if rng.random() < 0.5 else 0.72, 1.0, count)
    stretch = rng.uniform(0.6, 1.0)
    ring = np.stack([radius * np.cos(angle), radius * np.sin(angle) * stretch], axis=1)
    return densify(ring, closed=True) if rng.random() < 0.2 else smooth(*map(tuple, ring))


def bend(points: Points, rng_waves: Sequence[Wave], amount: float) -> Points:
    """Shift every point along smooth waves, the same for all parts, like an unsteady hand."""
    moved = points.copy()
    for wave in rng_waves:
        phase = points @ wave[:2] + wave[2]
        moved += amount * np.stack([wave[3] * np.sin(phase), wave[4] * np.cos(phase)], axis=1)
    return moved


def draw_waves(rng: np.random.Generator) -> list[Wave]:
    return [
        np.concatenate([rng.normal(0, frequency, 2), rng.uniform(0, 6.28, 1), rng.normal(0, 1 / frequency, 2)])
        for frequency in (2.0, 4.0, 8.0)
    ]
