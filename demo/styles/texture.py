# SPDX-License-Identifier: Apache-2.0
"""Smooth noise, paper and hatching. Nothing is finer than three pixels, because the VAE would lose it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageFilter

if TYPE_CHECKING:
    from demo.pixels import Values

Rng = np.random.Generator
Size = tuple[int, int]


def clouds(rng: Rng, size: Size, cell: float) -> Values:
    """Smooth noise (H, W) of mean 0 and about -1..1, with features of `cell` pixels."""
    width, height = size
    grid = rng.uniform(-1, 1, (max(2, round(height / cell) + 1), max(2, round(width / cell) + 1)))
    image = Image.fromarray(grid.astype(np.float32))
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC))


def soften(values: Values, radius: float) -> Values:
    """Blur (H, W) values in 0..1."""
    image = Image.fromarray((np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), dtype=np.float32) / 255


def shift(values: Values, dx: Values, dy: Values) -> Values:
    """Move the pixels of (H, W, …) values by (H, W) distances, like an unsteady hand."""
    height, width = values.shape[:2]
    y = np.clip(np.arange(height)[:, None] + np.rint(dy).astype(int), 0, height - 1)
    x = np.clip(np.arange(width)[None, :] + np.rint(dx).astype(int), 0, width - 1)
    moved: Values = values[y, x]
    return moved


def hatching(rng: Rng, size: Size, *, angle: float, period: float) -> Values:
    """Strokes (H, W) in one direction, of mean 0 and about -1..1: `period` pixels apart, uneven, with grain."""
    width, height = size
    side = int(np.hypot(width, height)) + 2
    across = np.arange(side)[:, None] / period + 0.35 * clouds(rng, (side, side), 11 * period)
    stripes = np.cos(2 * np.pi * across)
    grid = rng.uniform(-1, 1, (round(2.2 * side / period), max(2, round(side / (7 * period)))))
    grain = np.asarray(Image.fromarray(grid.astype(np.float32)).resize((side, side), Image.Resampling.BICUBIC))
    turned = Image.fromarray((0.75 * stripes + 0.4 * grain).astype(np.float32)).rotate(
        angle, resample=Image.Resampling.BILINEAR
    )
    left, top = (side - width) // 2, (side - height) // 2
    return np.asarray(turned)[top : top + height, left : left + width]
