# SPDX-License-Identifier: Apache-2.0
"""The scribble: placed parts drawn with an unsteady pen, white strokes on black, well or badly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from demo.geometry import draw_waves
from demo.painting import stroke

if TYPE_CHECKING:
    from collections.abc import Sequence

    from demo.geometry import Part, Points, Wave
    from demo.pixels import Pixels

Rng = np.random.Generator

STYLES: dict[str, float] = {
    "clean": 0.55,
    "gaps": 0.18,
    "double": 0.06,
    "coarse": 0.07,
    "open": 0.05,
    "filled": 0.04,
    "scrawled": 0.03,
    "overshoot": 0.02,
}

FINE = 0.06  # of a unit: tubes below are drawn with a finer pen


@dataclass(frozen=True, slots=True)
class Pen:
    """The drawing style of one person."""

    width: float  # in 1/128 of the shorter side
    wobble: float  # the same unit
    style: str = "clean"
    details: float = 1.0  # share of the details that are drawn
    hides: bool = False  # whether lines behind a shape are left out


def draw_pen(rng: Rng) -> Pen:
    style = str(rng.choice(list(STYLES), p=np.array(list(STYLES.values())) / sum(STYLES.values())))
    details = float(rng.choice([1.0, 0.5, 0.0], p=[0.7, 0.1, 0.2]))
    width = float(rng.choice([1, 1.5, 2, 2, 3, 3, 4, 5, 6, 7]))
    return Pen(width, float(rng.uniform(0, 0.8)), style, details, bool(rng.random() < 0.65))


def scribble(objects: Sequence[Sequence[Part]], pen: Pen, size: tuple[int, int], rng: Rng) -> Pixels:
    """(H, W) of 0 and 255: the objects' lines, drawn with the same pen from back to front."""
    canvas = Image.new("L", size, 0)
    for parts in objects:
        draw_object(canvas, parts, pen, rng)
    return np.where(np.asarray(canvas) > 127, 255, 0).astype(np.uint8)


def draw_object(canvas: Image.Image, parts: Sequence[Part], pen: Pen, rng: Rng) -> None:
    scale = min(canvas.size) / 128
    draw = ImageDraw.Draw(canvas)
    width = pen.width * scale
    outer = [p for p in parts if not p.is_detail]
    is_filled = pen.style in ("filled", "scrawled")
    if is_filled:
        fill(canvas, outer, width, scale, rng, is_solid=pen.style == "filled")
    waves = draw_waves(rng)
    gap_at = int(rng.integers(len(outer))) if outer else 0
    for index, part in enumerate(parts):
        if not part.is_drawn or (part.is_detail and (pen.style == "filled" or rng.random() >= pen.details)):
            continue
        path = np.concatenate([part.points, part.points[:1]]) if part.closed else part.points
        path = unsteady(path, waves, pen, scale, rng)
        if pen.hides and part.closed and part.fill != "hole" and not is_filled:
            draw.polygon([tuple(p) for p in path], fill=0)
        # A small eye or a thin spoke drawn as thick as a marker would be a blot.
        is_fine = part.is_detail or 0 < part.width < FINE
        thin = max(1.0, width * 0.6) if is_fine else width
        for piece in broken(path, pen, is_main=index == gap_at, is_detail=is_fine, rng=rng):
            stroke(draw, piece, thin, 255)
        if pen.style == "double" and not is_fine:
            stroke(draw, path + rng.normal(0, 0.9 * scale, 2), thin, 255)


def unsteady(path: Points, waves: Sequence[Wave], pen: Pen, scale: float, rng: Rng) -> Points:
    """A small error of the hand, which is only in the scribble."""
    if pen.style == "coarse":
        path = path[:: max(1, len(path) // int(rng.integers(14, 24)))] if len(path) > 24 else path
        return path + rng.normal(0, 0.8 * scale, path.shape)
    moved = path.copy()
    for wave in waves[1:]:
        phase = path @ wave[:2] / (20 * scale) + wave[2]
        moved += pen.wobble * scale * np.stack([np.sin(phase), np.cos(phase * 1.3)], axis=1)
    return moved


def broken(path: Points, pen: Pen, *, is_main: bool, is_detail: bool, rng: Rng) -> list[Points]:
    """Break the stroke: small gaps, one large opening, or ends that overlap."""
    count = len(path)
    if is_detail or count < 20:
        return [path]
    if pen.style == "gaps":
        start = int(rng.integers(count))
        ring = np.concatenate([path[start:], path[:start]]) if np.allclose(path[0], path[-1]) else path
        cuts = sorted(rng.integers(2, count - 4, int(rng.integers(1, 4))))
        pieces, last = [], 0
        for cut in cuts:
            pieces.append(ring[last:cut])
            last = cut + max(1, round(count * rng.uniform(0.01, 0.05)))
        # where the ring was cut to start elsewhere, the stroke must not jump across the picture
        return [p for piece in [*pieces, ring[last:]] for p in without_jumps(piece) if len(p) > 1]
    if pen.style == "open" and is_main:
        missing = round(count * rng.uniform(0.08, 0.25))
        start = int(rng.integers(count))
        ring = np.concatenate([path[start:-1], path[:start]])
        return [p for p in without_jumps(ring[missing:]) if len(p) > 1]
    if pen.style == "overshoot":
        return [np.concatenate([path, path[1:6] + rng.normal(0, 1.5, 2)])]
    return [path]


def without_jumps(path: Points) -> list[Points]:
    if len(path) < 3:
        return [path]
    steps = np.hypot(*np.diff(path, axis=0).T)
    jumps = np.flatnonzero(steps > 4 * np.median(steps) + 4) + 1
    return np.split(path, jumps)


def fill(
    canvas: Image.Image,
    outer: Sequence[Part],
    width: float,
    scale: float,
    rng: Rng,
    *,
    is_solid: bool,
) -> None:
    """Fill the shape: solid, or with a zigzag of the pen."""
    mask = Image.new("L", canvas.size, 0)
    inside = ImageDraw.Draw(mask)
    for part in outer:
        if part.closed and part.fill != "hole" and part.is_drawn:
            inside.polygon([tuple(p) for p in part.points], fill=255)
    if is_solid:
        canvas.paste(255, mask=mask)
        return
    zigzag = Image.new("L", canvas.size, 0)
    pen = ImageDraw.Draw(zigzag)
    gap = max(width * 1.8, 4 * scale)
    tilt = rng.uniform(-0.6, 0.6)
    y, side, path = -canvas.height * 0.6, 0, []
    while y < canvas.height * 1.6:
        path.append((side * canvas.width, y + side * tilt * canvas.height))
        side, y = 1 - side, y + gap / 2
    stroke(pen, np.array(path), width, 255)
    canvas.paste(255, mask=Image.fromarray(np.minimum(np.asarray(zigzag), np.asarray(mask))))
