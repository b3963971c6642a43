# SPDX-License-Identifier: Apache-2.0
"""Wax crayon: grainy strokes in one direction that leave paper uncovered, inside thick outlines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from demo.palette import RGB, mix
from demo.styles.layers import draw_layer, over
from demo.styles.texture import clouds, hatching, shift, soften

if TYPE_CHECKING:
    from demo.pixels import Values
    from demo.scenes import Scene

PAPER = np.array([0.955, 0.918, 0.845], dtype=np.float32)
FILL_ANGLE, WALL_ANGLE = 45.0, -45.0
PERIOD = 11.3  # pixels between strokes: four cells of the latents in a row, so that networks learn them


def paint_crayon(scene: Scene, rng: np.random.Generator) -> Values:
    """The scene drawn with wax crayons, (H, W, 3) in about 0..1."""
    size = scene.size
    scale = (min(size) / 256) ** 0.6
    dx, dy = 1.4 * scale * clouds(rng, size, 26 * scale), 1.4 * scale * clouds(rng, size, 26 * scale)
    tooth = clouds(rng, size, 5.0 * scale)
    broad = hatching(rng, size, angle=WALL_ANGLE, period=PERIOD * scale)
    strokes = hatching(rng, size, angle=FILL_ANGLE, period=PERIOD * scale)

    picture = np.broadcast_to(PAPER, (*tooth.shape, 3)) * (1 + 0.012 * tooth[..., None])
    picture = over(picture, waxen(scene.background.picture, broad), coverage(broad, tooth, pressure=0.56))
    for placed in scene.objects:
        layer = draw_layer(placed, size, line_width=5.0 * scale, ink=outline_of)
        alpha, lines = shift(layer.alpha, dx, dy), shift(layer.lines, dx, dy)
        gap = np.clip(1.3 * soften(layer.alpha, 1.2 * scale), 0, 1)
        picture = over(picture, np.broadcast_to(PAPER, picture.shape), 0.9 * gap)
        own = waxen(shift(layer.fill, dx, dy), strokes)
        picture = over(picture, own, alpha * coverage(strokes, tooth, pressure=0.8))
        rough = np.clip(lines * (1.0 + 0.5 * tooth + 0.25 * strokes), 0, 1)
        picture = over(picture, shift(layer.inks, dx, dy), 0.94 * rough)
    return picture


def outline_of(rgb: RGB) -> RGB:
    """A crayon that is darker than the fill, or lighter for dark fills."""
    return mix(rgb, (40, 20, 50), 0.5) if sum(rgb) > 210 else mix(rgb, (0, 0, 0), 0.55)


def waxen(rgb: Values, strokes: Values) -> Values:
    """The wax's colour: darker in the middle of strokes, so that white wax shows on paper."""
    return rgb * (0.92 - 0.12 * strokes[..., None])


def coverage(strokes: Values, tooth: Values, *, pressure: float) -> Values:
    """(H, W) in 0..1: how much of the paper the wax covers."""
    return (pressure + 0.12 + 0.68 * strokes + 0.25 * tooth).clip(0.12, 0.97)
