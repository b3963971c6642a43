# SPDX-License-Identifier: Apache-2.0
"""Paint placed parts: flat fills and ink lines at a large scale, then clay-like shading from the object's mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from demo.palette import MATERIALS, RGB, mix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from demo.geometry import Part, Points

OVERSAMPLING = 3
INK_WIDTH = 1.7 / 128  # relative to the shorter side
LINE_WIDTH = 2.8 / 128


@dataclass(frozen=True, slots=True)
class Painted:
    """An object before it is put on a background."""

    colour: np.ndarray  # (H, W, 3) in 0..1
    alpha: np.ndarray  # (H, W) in 0..1


def ink_of(rgb: RGB) -> RGB:
    """A dark line for light colours and a light line for dark ones, so that it is visible."""
    return mix(rgb, (12, 10, 20), 0.62) if sum(rgb) > 210 else mix(rgb, (255, 255, 255), 0.45)


def resolve(fill: str | RGB | None, body: RGB) -> RGB:
    if not isinstance(fill, str):
        return fill or body
    if fill == "body":
        return body
    if fill == "dark":
        return mix(body, (0, 0, 0), 0.36) if sum(body) > 150 else mix(body, (255, 255, 255), 0.25)
    if fill == "light":
        return mix(body, (255, 255, 255), 0.5) if sum(body) < 700 else mix(body, (90, 110, 150), 0.25)
    return MATERIALS[fill]


def stroke(draw: ImageDraw.ImageDraw, points: Points, width: float, fill: RGB | int, *, closed: bool = False) -> None:
    """A line with round joints and ends, which Pillow's own lines do not have."""
    path = [tuple(p) for p in points]
    if closed:
        path.append(path[0])
    whole = max(1, round(width))
    draw.line(path, fill=fill, width=whole, joint="curve")
    if whole > 2:
        r = whole / 2
        for x, y in (path[0], path[-1]):
            draw.ellipse((x - r, y - r, x + r, y + r), fill=fill)


def paint(parts: Sequence[Part], body: RGB, size: tuple[int, int], *, unit: float, light: float) -> Painted:
    """Paint `parts`, given in pixels. `unit` is the pixels per unit of the kind's drawing, `light` an angle."""
    width, height = size
    s, short = OVERSAMPLING, min(size)
    colour = Image.new("RGB", (width * s, height * s), mix(body, (0, 0, 0), 0.35))
    mask = Image.new("L", colour.size, 0)
    pen, cut = ImageDraw.Draw(colour), ImageDraw.Draw(mask)
    ink_width, line_width = INK_WIDTH * short * s, LINE_WIDTH * short * s
    for part in parts:
        points = part.points * s
        rgb = resolve(part.fill, body) if part.fill != "hole" else body
        outline = [tuple(p) for p in points]
        if not part.closed:
            if part.width:
                tube = max(part.width * unit, 4.5 * short / 128) * s
                stroke(pen, points, tube + ink_width, ink_of(rgb))
                stroke(pen, points, tube - ink_width, rgb)
                stroke(cut, points, tube + ink_width, 255)
            else:
                stroke(pen, points, line_width, ink_of(body))
            continue
        if part.fill == "hole":
            cut.polygon(outline, fill=0)
            stroke(pen, points, 2 * ink_width, ink_of(rgb), closed=True)
            continue
        pen.polygon(outline, fill=rgb)
        if part.has_ink:
            stroke(pen, points, ink_width, ink_of(rgb), closed=True)
        if not part.is_detail:
            cut.polygon(outline, fill=255)
            stroke(cut, points, ink_width, 255, closed=True)
    alpha = np.asarray(mask.reduce(s), dtype=np.float32) / 255
    flat = np.asarray(colour.reduce(s), dtype=np.float32) / 255
    return Painted(shade(flat, alpha, unit=unit, light=light), alpha)


def shade(flat: np.ndarray, alpha: np.ndarray, *, unit: float, light: float) -> np.ndarray:
    """Shade the flat colours: the blurred mask is a height field lit from `light`."""
    height = 0.6 * blur(alpha, unit * 0.14) + 0.4 * blur(alpha, unit * 0.4)
    slope_y, slope_x = np.gradient(height)
    lit = -(np.cos(light) * slope_x + np.sin(light) * slope_y) * unit
    shaded = flat * np.clip(1.0 + 0.42 * lit, 0.62, 1.16)[..., None]
    gloss = np.clip(lit - 0.34, 0, 0.4)[..., None]
    return np.clip(shaded + 0.55 * gloss, 0, 1)


def blur(values: np.ndarray, radius: float) -> np.ndarray:
    """Two box blurs along each axis, close to a Gaussian and cheap on floats."""
    half = max(1, round(radius))
    for axis in (0, 0, 1, 1):
        values = _box_blur(values, half, axis)
    return values


def _box_blur(values: np.ndarray, half: int, axis: int) -> np.ndarray:
    pad = [(0, 0), (0, 0)]
    pad[axis] = (half + 1, half)
    total = np.cumsum(np.pad(values, pad, mode="edge"), axis=axis)
    size = values.shape[axis]
    window = 2 * half + 1
    late = np.take(total, range(window, window + size), axis=axis)
    early = np.take(total, range(size), axis=axis)
    return (late - early) / window


def put_on(background: np.ndarray, painted: Painted, *, unit: float, light: float) -> np.ndarray:
    """The object over the background, with a soft shadow away from the light."""
    reach = max(1, round(unit * 0.12))
    shadow = blur(painted.alpha, unit * 0.1)
    down, across = round(np.sin(light) * -reach), round(np.cos(light) * -reach)
    height, width = shadow.shape
    padded = np.pad(shadow, reach)  # pixels shifted in from outside the picture are not shadow
    shadow = padded[reach - down : reach - down + height, reach - across : reach - across + width]
    ground = background * (1 - 0.26 * shadow[..., None])
    alpha = painted.alpha[..., None]
    return ground * (1 - alpha) + painted.colour * alpha
