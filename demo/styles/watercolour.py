# SPDX-License-Identifier: Apache-2.0
"""Watercolour: transparent washes on rough paper, dark where the pigment pools at an edge."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from demo.palette import RGB, mix
from demo.styles.layers import draw_layer
from demo.styles.texture import clouds, shift, soften

if TYPE_CHECKING:
    from demo.pixels import Values
    from demo.scenes import Scene

PAPER = np.array([0.985, 0.972, 0.945], dtype=np.float32)
DEEPEST = 0.03  # pigments let some light through, so that a density is finite


def paint_watercolour(scene: Scene, rng: np.random.Generator) -> Values:
    """The scene as a watercolour, (H, W, 3) in about 0..1."""
    size, short = scene.size, min(scene.size)
    scale = (short / 256) ** 0.6
    tooth = clouds(rng, size, 4.5 * scale)
    flow, fine = clouds(rng, size, 44 * scale), clouds(rng, size, 13 * scale)
    dx, dy = 1.3 * scale * clouds(rng, size, 14 * scale), 1.3 * scale * clouds(rng, size, 14 * scale)

    density = (0.46 + 0.18 * flow + 0.06 * fine + 0.12 * np.linspace(1, -1, size[1])[:, None]) * wash_area(
        scene, rng, scale
    )
    layers = [draw_layer(o, size, line_width=2.0 * scale, ink=watered) for o in scene.objects]
    pigment = scene.background.picture.astype(np.float32)
    for layer in layers:
        alpha = soften(shift(layer.alpha, dx, dy), 0.7 * scale)
        lines = soften(shift(layer.lines, dx, dy), 0.8 * scale) * np.minimum(1, 1.4 * soften(alpha, 1.5))
        pooled = pooling(alpha, 4.0 * scale)
        gap = np.clip(1.9 * soften(layer.alpha, 2.8 * scale) - 0.1, 0, 1)  # dry paper keeps two washes apart
        density *= 1 - gap
        own = 0.66 + 0.22 * flow + 0.12 * fine + 0.75 * pooled - 0.35 * light(layer.alpha, short)
        density = density * (1 - alpha) + own * alpha
        pigment = pigment + (shift(layer.fill, dx, dy) - pigment) * gap[..., None]
        inks = shift(layer.inks, dx, dy)
        pigment = pigment + (inks - pigment) * (0.75 * lines)[..., None]
        density = np.maximum(density, 0.95 * lines)
    density = np.clip(density, 0, 2) * (1 + 0.13 * tooth)
    absorbed: Values = np.maximum(pigment, DEEPEST) ** density[..., None]
    return PAPER * (1 + 0.012 * tooth[..., None]) * absorbed


def watered(rgb: RGB) -> RGB:
    """The colour of a line that is painted with the same pigment, less diluted."""
    return mix(rgb, (30, 30, 60), 0.5)


def wash_area(scene: Scene, rng: np.random.Generator, scale: float) -> Values:
    """(H, W): the background's wash ends with an uneven, darker edge before the paper does."""
    width, height = scene.size
    x, y = np.arange(width)[None, :], np.arange(height)[:, None]
    edge: Values = np.minimum(np.minimum(x, width - 1 - x), np.minimum(y, height - 1 - y)) / scale
    margin: Values = edge - 9 + 6 * clouds(rng, scene.size, 70 * scale) + 1.5 * clouds(rng, scene.size, 12 * scale)
    pooled: Values = 1 + 0.5 * np.exp(-np.maximum(margin, 0) / 3)
    return (margin / 2.5).clip(0, 1) * pooled


def pooling(alpha: Values, radius: float) -> Values:
    """(H, W): 1 at the edges of a wash, falling inwards."""
    return (2.4 * (0.92 - soften(alpha, radius))).clip(0, 1) * alpha


def light(alpha: Values, short: int) -> Values:
    """(H, W): the upper left of the object is painted with more water."""
    height = soften(alpha, short * 0.06)
    slope_y, slope_x = np.gradient(height)
    slope: Values = slope_x + slope_y
    return (slope * short * 0.16).clip(-0.6, 1)
