# SPDX-License-Identifier: Apache-2.0
"""Flat fills and outlines of a scene's objects, which all styles start from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from demo.painting import resolve, stroke

if TYPE_CHECKING:
    from collections.abc import Callable

    from demo.geometry import Part
    from demo.palette import RGB
    from demo.pixels import Values
    from demo.scenes import Placed

OVERSAMPLING = 2
THINNEST_TUBE = 4.5 / 128  # of the shorter side, as in `painting`


@dataclass(frozen=True, slots=True)
class Layer:
    """One object without light and shadow. Parts in front hide fills and lines of those behind them."""

    fill: Values  # (H, W, 3) in 0..1
    alpha: Values  # (H, W) in 0..1
    lines: Values  # (H, W) in 0..1, the coverage by outlines and drawn lines
    inks: Values  # (H, W, 3) in 0..1, the colour of the lines where there are any


def draw_layer(placed: Placed, size: tuple[int, int], *, line_width: float, ink: Callable[[RGB], RGB]) -> Layer:
    """Draw an object. `ink` is the colour of a part's outline, `line_width` is in pixels."""
    s = OVERSAMPLING
    body = placed.subject.colour.rgb
    large = (size[0] * s, size[1] * s)
    fill, inks = Image.new("RGB", large, body), Image.new("RGB", large, ink(body))
    alpha, lines = Image.new("L", large, 0), Image.new("L", large, 0)
    images = tuple(map(ImageDraw.Draw, (fill, alpha, lines, inks)))
    width = line_width * s
    for part in placed.parts:
        tube = max(part.width * placed.unit, THINNEST_TUBE * min(size)) * s if part.width else 0.0
        _draw_part(images, part, body, ink, width, tube)
    return Layer(*(_reduced(image) for image in (fill, alpha, lines, inks)))


def _draw_part(
    images: tuple[ImageDraw.ImageDraw, ...],
    part: Part,
    body: RGB,
    ink: Callable[[RGB], RGB],
    width: float,
    tube: float,
) -> None:
    fill, alpha, lines, inks = images
    points = part.points * OVERSAMPLING
    rgb = resolve(part.fill, body) if part.fill != "hole" else body
    if not part.closed and tube:
        stroke(inks, points, tube + width, ink(rgb))
        stroke(lines, points, tube + width, 255)
        stroke(alpha, points, tube + width, 255)
        stroke(fill, points, tube + width, rgb)
        stroke(lines, points, tube - width, 0)
        return
    if not part.closed:
        stroke(inks, points, 1.5 * width, ink(body))
        stroke(lines, points, width, 255)
        return
    outline = [tuple(p) for p in points]
    if part.fill == "hole":
        alpha.polygon(outline, fill=0)
    else:
        fill.polygon(outline, fill=rgb)
    if part.fill != "hole" and not part.is_detail:
        alpha.polygon(outline, fill=255)
    lines.polygon(outline, fill=0)
    if part.has_ink:
        stroke(inks, points, 1.5 * width, ink(rgb), closed=True)
        stroke(lines, points, width, 255, closed=True)


def _reduced(image: Image.Image) -> Values:
    return np.asarray(image.reduce(OVERSAMPLING), dtype=np.float32) / 255


def over(below: Values, above: Values, alpha: Values) -> Values:
    """`above` over `below`, (H, W, 3), with (H, W) alpha."""
    return below + (above - below) * alpha[..., None]
