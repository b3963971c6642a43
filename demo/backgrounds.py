# SPDX-License-Identifier: Apache-2.0
"""Backgrounds: plain colours, sky over ground, and named scenes, with their words in captions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from demo.palette import RGB, Colour, draw_colour, draw_contrasting, mix

if TYPE_CHECKING:
    from collections.abc import Callable

    from demo.pixels import Values

Rng = np.random.Generator
Size = tuple[int, int]

PHRASES: dict[str, tuple[str, ...]] = {
    "night": (
        "at night",
        "in the night",
        "under the stars",
        "at night under the stars",
        "in a dark night",
        "under the moon",
    ),
    "sea": (
        "on the sea",
        "in the sea",
        "in the ocean",
        "at sea",
        "on the water",
        "in the water",
        "on a lake",
    ),
    "snow": ("in the snow", "in winter", "on snow", "in a snowy landscape", "on the ice", "in a snow storm"),
    "meadow": (
        "in a meadow",
        "on the grass",
        "on a meadow",
        "in a field",
        "in the garden",
        "in a green field",
        "in a park",
    ),
    "desert": ("in the desert", "on sand", "in a sandy desert", "on a dune", "in the sand"),
    "sunset": ("at sunset", "in the evening", "at dusk", "in front of a sunset", "at sunrise"),
    "sky": ("in the sky", "under a blue sky", "in the air", "on a sunny day", "outside", "with clouds"),
    "space": ("in space", "in outer space", "in the galaxy", "among the stars", "in the universe"),
    "forest": ("in the forest", "in the woods", "in a jungle", "among trees"),
    "beach": ("on the beach", "at the beach", "by the sea", "on an island"),
    "road": ("on a road", "on the street", "in the city", "in a town"),
}


@dataclass(frozen=True, slots=True)
class Background:
    """A painted background, with the facts that a caption can name."""

    name: str  # a scene, "plain" or "ground"
    colours: tuple[Colour, ...]
    picture: Values  # (H, W, 3) in 0..1


def vertical(size: Size, *stops: tuple[float, RGB]) -> Values:
    """Blend colours from top to bottom, at the given heights (0 to 1)."""
    width, height = size
    y = np.linspace(0, 1, height)
    at = [stop for stop, _ in stops]
    columns = [np.interp(y, at, [rgb[c] / 255 for _, rgb in stops]) for c in range(3)]
    return np.repeat(np.stack(columns, axis=1)[:, None, :], width, axis=1).astype(np.float32)


def hills(size: Size, rng: Rng, level: float, swing: float) -> Values:
    """A soft-edged mask (H, W) of everything below a wavy line."""
    width, height = size
    x = np.linspace(0, 6.28, width)
    edge: Values = level + swing * (
        np.sin(x * rng.uniform(0.4, 1.0) + rng.uniform(0, 6.28)) + 0.4 * np.sin(2.3 * x + rng.uniform(0, 6.28))
    )
    return ((np.linspace(0, 1, height)[:, None] - edge[None, :]) * height + 0.5).clip(0, 1)


def lay(picture: Values, mask: Values, rgb: RGB) -> Values:
    colour = np.array(rgb, dtype=np.float32) / 255
    share = mask[..., None]
    rest: Values = 1 - share
    return picture * rest + colour * share


def disk(
    picture: Values,
    x: float,
    y: float,
    radius: float,
    rgb: RGB,
    *,
    flat: float = 1.0,
    opacity: float = 1.0,
) -> None:
    """Paint a soft-edged ellipse; x and y from 0 to 1, radius relative to the shorter side."""
    height, width = picture.shape[:2]
    r, cx, cy = radius * min(width, height), x * width, y * height
    x0, x1 = max(0, int(cx - r - 1)), min(width, int(cx + r + 2))
    y0, y1 = max(0, int(cy - r - 1)), min(height, int(cy + r + 2))
    if x0 >= x1 or y0 >= y1:
        return
    dx, dy = np.arange(x0, x1)[None, :] - cx, (np.arange(y0, y1)[:, None] - cy) / flat
    mask = opacity * np.clip(r - np.hypot(dx, dy) + 0.5, 0, 1)
    picture[y0:y1, x0:x1] = lay(picture[y0:y1, x0:x1], mask, rgb)


def puff(picture: Values, rng: Rng, *, rgb: RGB = (255, 255, 255), top: float = 0.3) -> None:
    """Paint one cloud."""
    x, y = rng.uniform(0.05, 0.95), rng.uniform(0.06, top)
    scale = rng.uniform(0.06, 0.1)
    for dx, r in ((-0.1, 0.75), (0.0, 1.1), (0.1, 0.8)):
        disk(picture, x + dx, y, scale * r, rgb, flat=0.7, opacity=0.85)


def scatter(picture: Values, rng: Rng, *, count: int, radius: float, rgb: RGB, top: float, bottom: float) -> None:
    for _ in range(count):
        disk(picture, rng.uniform(0, 1), rng.uniform(top, bottom), radius * rng.uniform(0.7, 1.3), rgb)


def night(size: Size, rng: Rng) -> Values:
    picture = vertical(size, (0, (10, 14, 46)), (1, (40, 48, 104)))
    scatter(picture, rng, count=int(rng.integers(8, 13)), radius=0.018, rgb=(250, 246, 214), top=0, bottom=0.8)
    if rng.random() < 0.5:
        x, y = rng.uniform(0.1, 0.9), rng.uniform(0.1, 0.22)
        disk(picture, x, y, 0.08, (246, 240, 200))
        disk(picture, x + 0.045, y - 0.01, 0.07, (14, 18, 54))
    return lay(picture, hills(size, rng, rng.uniform(0.8, 0.9), 0.03), (16, 30, 40)) if rng.random() < 0.6 else picture


def sea(size: Size, rng: Rng) -> Values:
    level = rng.uniform(0.3, 0.5)
    picture = vertical(size, (0, (150, 208, 248)), (level, (220, 240, 252)))
    if rng.random() < 0.6:
        puff(picture, rng, top=level * 0.6)
    water = vertical(size, (level, (40, 130, 210)), (1, (10, 66, 150)))
    y, x = np.mgrid[0 : size[1], 0 : size[0]] / min(size)
    waves = np.sin(34 * y + 1.6 * np.sin(9 * x + rng.uniform(0, 6.28)))
    below: Values = water + 0.10 * np.clip(waves - 0.35, 0, 1)[..., None]
    mask = hills(size, rng, level, 0.0)[..., None]
    rest: Values = 1 - mask
    return picture * rest + below * mask


def snow(size: Size, rng: Rng) -> Values:
    picture = vertical(size, (0, (138, 166, 206)), (1, (206, 220, 238)))
    picture = lay(picture, hills(size, rng, rng.uniform(0.6, 0.76), 0.035), (246, 249, 255))
    scatter(picture, rng, count=int(rng.integers(9, 15)), radius=0.022, rgb=(255, 255, 255), top=0, bottom=0.72)
    return picture


def meadow(size: Size, rng: Rng) -> Values:
    level = rng.uniform(0.55, 0.7)
    picture = vertical(size, (0, (96, 176, 244)), (level, (206, 234, 252)))
    puff(picture, rng, top=0.28)
    picture = lay(picture, hills(size, rng, level - 0.05, 0.05), (122, 194, 92))
    picture = lay(picture, hills(size, rng, level + 0.06, 0.04), (82, 170, 68))
    petal = ((252, 240, 120), (250, 150, 170), (250, 250, 250))[rng.integers(3)]
    scatter(picture, rng, count=int(rng.integers(4, 9)), radius=0.02, rgb=petal, top=level + 0.14, bottom=0.97)
    return picture


def desert(size: Size, rng: Rng) -> Values:
    level = rng.uniform(0.55, 0.7)
    picture = vertical(size, (0, (120, 190, 232)), (level, (252, 236, 200)))
    disk(picture, rng.uniform(0.12, 0.88), 0.14, 0.07, (255, 242, 170))
    picture = lay(picture, hills(size, rng, level - 0.03, 0.05), (236, 190, 120))
    return lay(picture, hills(size, rng, level + 0.1, 0.06), (222, 168, 92))


def sunset(size: Size, rng: Rng) -> Values:
    level = rng.uniform(0.62, 0.74)
    picture = vertical(size, (0, (88, 44, 120)), (level * 0.6, (236, 96, 80)), (level, (255, 204, 96)))
    disk(picture, rng.uniform(0.15, 0.85), level, 0.13, (255, 240, 170))
    return lay(picture, hills(size, rng, level, 0.02), (62, 32, 62))


def sky(size: Size, rng: Rng) -> Values:
    picture = vertical(size, (0, (78, 158, 240)), (1, (204, 232, 252)))
    for _ in range(int(rng.integers(2, 4))):
        puff(picture, rng, top=0.9)
    return picture


def space(size: Size, rng: Rng) -> Values:
    picture = vertical(size, (0, (12, 8, 26)), (1, (28, 14, 50)))
    scatter(picture, rng, count=int(rng.integers(9, 15)), radius=0.017, rgb=(255, 255, 255), top=0, bottom=1)
    x, y = rng.uniform(0.08, 0.92), rng.choice([rng.uniform(0.06, 0.2), rng.uniform(0.8, 0.94)])
    disk(
        picture,
        x,
        y,
        rng.uniform(0.05, 0.1),
        ((226, 120, 70), (110, 170, 220), (200, 170, 230))[rng.integers(3)],
    )
    return picture


def forest(size: Size, rng: Rng) -> Values:
    picture = vertical(size, (0, (150, 200, 150)), (1, (90, 150, 100)))
    for x in np.arange(rng.uniform(0, 0.15), 1.1, rng.uniform(0.17, 0.24)):
        stem = np.clip(0.028 * min(size) - np.abs(np.arange(size[0]) - x * size[0]) + 0.5, 0, 1)
        picture = lay(picture, np.repeat(stem[None, :], size[1], axis=0), (84, 66, 48))
        disk(picture, x, rng.uniform(0.0, 0.12), 0.14, (40, 110, 56))
    return lay(picture, hills(size, rng, rng.uniform(0.74, 0.82), 0.02), (52, 104, 50))


def beach(size: Size, rng: Rng) -> Values:
    level = rng.uniform(0.4, 0.5)
    picture = vertical(size, (0, (110, 190, 246)), (level, (220, 242, 252)))
    picture = lay(picture, hills(size, rng, level, 0.0), (40, 150, 210))
    picture = lay(picture, hills(size, rng, level + 0.18, 0.03), (250, 250, 246))
    return lay(picture, hills(size, rng, level + 0.21, 0.03), (244, 220, 160))


def road(size: Size, rng: Rng) -> Values:
    level = rng.uniform(0.66, 0.74)
    picture = vertical(size, (0, (150, 200, 240)), (1, (226, 236, 244)))
    x = rng.uniform(-0.05, 0.05)
    while x < 1.0:
        wide, top = rng.uniform(0.13, 0.22), rng.uniform(0.25, 0.5)
        x0, x1, y0 = (round(v) for v in (x * size[0], (x + wide) * size[0], top * size[1]))
        picture[y0:, max(0, x0) : x1] = (
            np.array(((178, 168, 176), (150, 158, 178), (196, 176, 160))[rng.integers(3)]) / 255
        )
        x += wide + 0.02
    picture = lay(picture, hills(size, rng, level, 0.0), (92, 94, 102))
    return lay(
        picture,
        hills(size, rng, level + 0.14, 0.0) * (1 - hills(size, rng, level + 0.17, 0.0)),
        (240, 236, 220),
    )


SCENES: dict[str, Callable[[Size, Rng], Values]] = {
    "night": night,
    "sea": sea,
    "snow": snow,
    "meadow": meadow,
    "desert": desert,
    "sunset": sunset,
    "sky": sky,
    "space": space,
    "forest": forest,
    "beach": beach,
    "road": road,
}


def scene(name: str, size: Size, rng: Rng) -> Background:
    return Background(name, (), np.clip(SCENES[name](size, rng), 0, 1))


def plain(colour: Colour, size: Size) -> Background:
    """One colour, a little lighter at the top."""
    light, dark = mix(colour.rgb, (255, 255, 255), 0.10), mix(colour.rgb, (0, 0, 0), 0.08)
    return Background("plain", (colour,), vertical(size, (0, light), (1, dark)))


def open_sky(colour: Colour, size: Size) -> Background:
    """One colour that fades towards the horizon."""
    return Background(
        "open sky", (colour,), vertical(size, (0, colour.rgb), (0.7, mix(colour.rgb, (255, 255, 255), 0.4)))
    )


def ground(size: Size, rng: Rng, *, unlike: Colour) -> Background:
    """A sky of one colour over a ground of another."""
    above = draw_contrasting(rng, unlike, among=("blue", "cyan", "orange", "pink", "gray", "purple", "white", "yellow"))
    below = draw_colour(rng, among=("green", "brown", "yellow", "white", "gray", "blue", "pink", "red"), shaded=0.15)
    for _ in range(10):
        if below.name not in (above.name, unlike.name):
            break
        below = draw_colour(rng, among=("green", "brown", "yellow", "white", "gray"), shaded=0.15)
    picture = vertical(size, (0, above.rgb), (0.7, mix(above.rgb, (255, 255, 255), 0.3)))
    return Background(
        "ground", (above, below), lay(picture, hills(size, rng, rng.uniform(0.58, 0.75), 0.035), below.rgb)
    )
