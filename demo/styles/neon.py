# SPDX-License-Identifier: Apache-2.0
"""Night neon: glowing tubes along the outlines, in each part's colour, on a dark wall that they light."""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING

import numpy as np

from demo.palette import RGB
from demo.styles.layers import draw_layer, over
from demo.styles.texture import soften

if TYPE_CHECKING:
    from demo.pixels import Values
    from demo.scenes import Scene

NIGHT = np.array([0.020, 0.016, 0.055], dtype=np.float32)
BRICK = (32, 16)  # pixels; a multiple of the latent's cells, so that networks can learn the wall
HALO = ((3.0, 0.8), (10.0, 0.85), (30.0, 1.0))  # radius and strength of the light around a tube


def paint_neon(scene: Scene, _rng: np.random.Generator) -> Values:
    """The scene as a neon sign at night, (H, W, 3) in about 0..1."""
    size = scene.size
    scale = (min(size) / 256) ** 0.7
    wall = scene.background.picture.astype(np.float32)
    brightness = wall.mean(-1)
    small = np.clip(brightness - soften(brightness, 12 * scale), 0, 1)  # stars, the moon and clouds
    ground = NIGHT + 0.36 * wall**1.6
    shining = 1.1 * small[..., None] * wall
    joints: Values = bricks(size)
    tubes, dark = np.zeros_like(ground), np.zeros_like(ground)
    core: Values = np.zeros(ground.shape[:2], dtype=np.float32)
    for placed in scene.objects:
        layer = draw_layer(placed, size, line_width=5.2 * scale, ink=gas)
        ground = over(ground, NIGHT + 0.26 * layer.fill, layer.alpha)
        shining = over(shining, dark, layer.alpha)
        joints = joints + (0.75 + 0.25 * joints - joints) * layer.alpha
        tubes = over(over(tubes, dark, layer.alpha), layer.inks, layer.lines)
        behind: Values = core * (1 - layer.alpha)
        core = behind + np.clip(2.4 * (soften(layer.lines, 1.2 * scale) - 0.58), 0, 1)
    halo = sum(weight * blurred(tubes, radius * scale) for radius, weight in HALO)
    lit = (ground + halo) * joints[..., None] + shining
    lit = over(lit, tubes, np.clip(1.1 * tubes.max(-1), 0, 1))
    return over(lit, 0.35 * tubes + 0.65, 0.75 * core)


def bricks(size: tuple[int, int]) -> Values:
    """(H, W) in 0..1: a wall whose joints and uneven bricks show where light falls on it."""
    width, height = size
    wide, high = BRICK
    y, x = np.mgrid[0:height, 0:width]
    row = y // high
    x = x + row % 2 * (wide // 2)
    joint = np.minimum(np.minimum(x % wide, wide - 1 - x % wide), np.minimum(y % high, high - 1 - y % high))
    shade = 0.9 + 0.1 * np.cos(2.4 * (x // wide) + 1.7 * row)
    wall: Values = shade * np.clip(0.5 + 0.3 * joint, 0, 1)
    return wall.astype(np.float32)


def gas(rgb: RGB) -> RGB:
    """The light of a tube: the part's hue, bright and saturated. Grays stay gray, black is a faint violet."""
    hue, saturation, value = colorsys.rgb_to_hsv(*(channel / 255 for channel in rgb))
    if saturation < 0.2:
        value = 0.42 + 0.58 * value
        return round(255 * value * 0.93), round(255 * value * 0.95), round(255 * value)
    r, g, b = colorsys.hsv_to_rgb(hue, min(1.0, saturation * 1.15), max(0.72, value))
    return round(255 * r), round(255 * g), round(255 * b)


def blurred(rgb: Values, radius: float) -> Values:
    return np.stack([soften(rgb[..., channel], radius) for channel in range(3)], axis=-1)
