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
    from demo.pixels import Mask, Pixels, Values

OVERSAMPLING = 3
JOINT = 0.8  # oversampled pixels of a gap that a joint may have
COARSE = 3.5  # pixels of the smallest blur, which is computed at a lower resolution
MARGIN = 0.4  # of a unit around an object, for its shadow
INK_WIDTH = 1.7 / 128  # relative to the shorter side
LINE_WIDTH = 2.8 / 128


THINNEST = 2.6 / 128  # a tube's width; thinner ones are lost in the latents


@dataclass(frozen=True, slots=True)
class Painted:
    """An object before it is put on a background: the window of the picture that it touches."""

    left: int
    top: int
    colour: Values  # (h, w, 3) in 0..1
    alpha: Values  # (h, w) in 0..1
    details: Mask  # (h, w), where eyes, windows, limbs, spokes and similar small parts are visible

    @property
    def window(self) -> tuple[slice, slice]:
        height, width = self.alpha.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


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
    """A line with round joints and ends, which Pillow's own lines do not have, or have slowly."""
    path = np.concatenate([points, points[:1]]) if closed else points
    whole = max(1, round(width))
    draw.line(path.ravel().tolist(), fill=fill, width=whole)
    if whole > 2:
        r = whole / 2
        for x, y in path[sharp(path, r)].tolist():
            draw.ellipse((x - r, y - r, x + r, y + r), fill=fill)


def sharp(path: Points, radius: float) -> Mask:
    """(N,): the ends, and the joints where a line this thick would show a gap."""
    steps = np.diff(path, axis=0)
    angles = np.arctan2(steps[:, 1], steps[:, 0])
    turns = np.abs((np.diff(angles) + np.pi) % (2 * np.pi) - np.pi)
    return np.concatenate([[True], turns * radius > JOINT, [True]])


def paint(parts: Sequence[Part], body: RGB, size: tuple[int, int], *, unit: float, light: float) -> Painted:
    """Paint `parts`, given in pixels. `unit` is the pixels per unit of the kind's drawing, `light` an angle."""
    s, short = OVERSAMPLING, min(size)
    left, top, width, height = window_of(parts, size, margin=MARGIN * unit + 0.08 * short)
    colour = Image.new("RGB", (width * s, height * s), mix(body, (0, 0, 0), 0.35))
    mask, details = Image.new("L", colour.size, 0), Image.new("L", colour.size, 0)
    pen, cut, mark = (ImageDraw.Draw(image) for image in (colour, mask, details))
    ink_width, line_width = INK_WIDTH * short * s, LINE_WIDTH * short * s
    for part in parts:
        points = (part.points - [left, top]) * s
        rgb = resolve(part.fill, body) if part.fill != "hole" else body
        outline = [tuple(p) for p in points]
        shown = 255 if part.is_detail or not part.closed else 0
        if not part.closed:
            if part.width:
                tube = max(part.width * unit, THINNEST * short) * s
                ink = min(ink_width, 0.4 * tube)
                stroke(pen, points, tube + ink, ink_of(rgb))
                stroke(pen, points, tube - ink, rgb)
                stroke(cut, points, tube + ink, 255)
                stroke(mark, points, tube + ink, shown)
            else:
                stroke(pen, points, line_width, ink_of(rgb))
                stroke(mark, points, line_width, shown)
            continue
        if part.fill == "hole":
            cut.polygon(outline, fill=0)
            stroke(pen, points, 2 * ink_width, ink_of(rgb), closed=True)
            stroke(mark, points, 2 * ink_width, shown, closed=True)
            continue
        pen.polygon(outline, fill=rgb)
        mark.polygon(outline, fill=shown)
        if part.has_ink:
            stroke(pen, points, ink_width, ink_of(rgb), closed=True)
        if not part.is_detail:
            cut.polygon(outline, fill=255)
            stroke(cut, points, ink_width, 255, closed=True)
    alpha = np.asarray(mask.reduce(s), dtype=np.float32) / 255
    flat = np.asarray(colour.reduce(s), dtype=np.float32) / 255
    seen = (np.asarray(details.reduce(s)) > 127) & (alpha > 0.5)
    return Painted(left, top, shade(flat, alpha, unit=unit, light=light), alpha, seen)


def part_numbers(parts: Sequence[Part], size: tuple[int, int], *, unit: float) -> Pixels:
    """(H, W): one more than the index of the part in front, or 0."""
    canvas = Image.new("L", size, 0)
    draw = ImageDraw.Draw(canvas)
    for index, part in enumerate(parts):
        number = 0 if part.fill == "hole" else index + 1
        if part.closed:
            draw.polygon([tuple(p) for p in part.points], fill=number)
        else:
            width = max(part.width * unit, THINNEST * min(size)) if part.width else LINE_WIDTH * min(size)
            stroke(draw, part.points, width, number)
    return np.asarray(canvas)


def window_of(parts: Sequence[Part], size: tuple[int, int], *, margin: float) -> tuple[int, int, int, int]:
    """Left, top, width and height of the part of the picture that the object and its shadow touch."""
    points = np.concatenate([part.points for part in parts])
    low = np.clip(np.floor(points.min(0) - margin), 0, np.array(size) - 1).astype(int)
    high = np.clip(np.ceil(points.max(0) + margin), low + 1, size).astype(int)
    return int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1])


def shade(flat: Values, alpha: Values, *, unit: float, light: float) -> Values:
    """Shade the flat colours: the blurred mask is a height field lit from `light`."""
    coarse, factor = reduced(alpha, unit * 0.14)
    height = 0.6 * blur(coarse, unit * 0.14 / factor) + 0.4 * blur(coarse, unit * 0.4 / factor)
    slope_y, slope_x = np.gradient(height)
    lit = enlarged(-(np.cos(light) * slope_x + np.sin(light) * slope_y) * (unit / factor), alpha.shape, factor)
    shaded: Values = flat * np.clip(1.0 + 0.42 * lit, 0.62, 1.16)[..., None]
    shaded += 0.55 * np.clip(lit - 0.34, 0, 0.4)[..., None]
    np.minimum(shaded, 1, out=shaded)
    return shaded


def reduced(values: Values, radius: float) -> tuple[Values, int]:
    """The values at the lowest resolution at which a blur of this radius looks the same, and its factor."""
    factor = max(1, int(radius / COARSE))
    return np.asarray(Image.fromarray(values).reduce(factor)), factor


def enlarged(values: Values, shape: tuple[int, ...], factor: int) -> Values:
    if factor == 1:
        return values
    height, width = shape
    image = Image.fromarray(values.astype(np.float32))
    box = (0, 0, width / factor, height / factor)
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box=box))


def blur(values: Values, radius: float) -> Values:
    """Two box blurs along each axis, close to a Gaussian and cheap on floats."""
    half = max(1, round(radius))
    for axis in (0, 0, 1, 1):
        values = _box_blur(values, half, axis)
    return values


def _box_blur(values: Values, half: int, axis: int) -> Values:
    pad = [(0, 0), (0, 0)]
    pad[axis] = (half + 1, half)
    total = np.cumsum(np.pad(values, pad, mode="edge"), axis=axis)
    window = 2 * half + 1
    if axis == 0:
        return (total[window:] - total[:-window]) / window
    return (total[:, window:] - total[:, :-window]) / window


def put_on(picture: Values, painted: Painted, *, unit: float, light: float) -> None:
    """Lay the object over the picture, with a soft shadow away from the light."""
    reach = max(1, round(unit * 0.12))
    coarse, factor = reduced(painted.alpha, unit * 0.1)
    shadow = enlarged(blur(coarse, unit * 0.1 / factor), painted.alpha.shape, factor)
    down, across = round(np.sin(light) * -reach), round(np.cos(light) * -reach)
    height, width = shadow.shape
    padded = np.pad(shadow, reach)  # pixels shifted in from outside the picture are not shadow
    shadow = padded[reach - down : reach - down + height, reach - across : reach - across + width]
    ground = picture[painted.window]
    alpha = painted.alpha[..., None]
    ground *= (1 - 0.26 * shadow[..., None]) * (1 - alpha)
    ground += painted.colour * alpha
