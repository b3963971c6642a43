# SPDX-License-Identifier: Apache-2.0
"""Measures of a picture: the position and colour of its object, the visibility of drawn lines, and its scene."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from demo.palette import BASE, SHADED, colour

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from demo.geometry import Points
    from demo.palette import RGB
    from demo.pixels import Mask, Pixels

Colours = npt.NDArray[np.floating[Any]]  # (..., 3), sRGB levels from 0 to 255 or CIE Lab
Feature = npt.NDArray[np.float64]  # (F,) of a scene

OBJECT_SHARE = 0.25  # of the contrast between background and object, from which on a pixel counts as object
MOST_LEVELS = 30.0  # pixels that differ more from the background count as object at any contrast
SHADOW, GLOW = 0.8, 1.06
EDGE_LEVELS = 9.0  # per pixel, of 255: fainter lines are invisible
EDGE_RATIO = 1.6


def dilate(mask: Mask, pixels: int) -> Mask:
    image = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(image.filter(ImageFilter.MaxFilter(2 * pixels + 1))) > 0


def erode(mask: Mask, pixels: int) -> Mask:
    return ~dilate(~mask, pixels)


def iou(first: Mask, second: Mask) -> float:
    union = (first | second).sum()
    return float((first & second).sum() / union) if union else 1.0


def overlap(picture: Pixels, mask: Mask) -> float:
    """IoU of the picture's object with the pixels where it should be."""
    return iou(object_region(picture, mask), mask)


def scale_of(shape: tuple[int, ...]) -> int:
    """The factor of pixel distances, which are given for 128 px."""
    return max(1, min(shape[:2]) // 128)


def outside(mask: Mask) -> Mask:
    """Pixels away from the object and its shadow."""
    scale = scale_of(mask.shape)
    far = ~dilate(mask, 8 * scale)
    return far if far.sum() > 50 else ~dilate(mask, scale)


def object_region(picture: Pixels, mask: Mask) -> Mask:
    """The pixels that stand out from a plain background, with holes filled. `mask` is where the object should be."""
    pixels = picture.astype(np.float64)
    height, width = mask.shape
    rows = np.stack([np.ones((height, width)), np.mgrid[0:height, 0:width][0] / height], axis=-1)  # (H, W, 2)
    where = outside(mask)
    fit, *_ = np.linalg.lstsq(rows[where], pixels[where], rcond=None)
    background = rows @ fit  # (H, W, 3), a vertical gradient as painted
    # A soft shadow is darker background, and does not belong to the object.
    times = (pixels * background).sum(-1) / np.maximum((background**2).sum(-1), 1)
    residual = np.linalg.norm(pixels - np.clip(times, SHADOW, GLOW)[..., None] * background, axis=-1)
    scale = scale_of(mask.shape)
    core = core_of(mask)
    threshold = float(np.clip(OBJECT_SHARE * np.median(residual[core]), 14.0, MOST_LEVELS))
    # Closing first, because an ink line as dark as the background must not open the shape.
    return fill_holes(erode(dilate(residual > threshold, scale), scale))


def fill_holes(region: Mask) -> Mask:
    framed = Image.fromarray(np.pad(region, 1).astype(np.uint8) * 255).copy()
    ImageDraw.floodfill(framed, (0, 0), 128)
    is_inside: Mask = np.asarray(framed)[1:-1, 1:-1] != 128
    return is_inside


def lab(rgb: Colours) -> Colours:
    """CIE Lab of sRGB levels (..., 3), in which distances match visible differences."""
    linear = np.where(rgb / 255 > 0.04045, ((rgb / 255 + 0.055) / 1.055) ** 2.4, rgb / 255 / 12.92)
    xyz = linear @ np.array([[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9505]])
    ratio = xyz / np.array([0.9505, 1.0, 1.089])
    f = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)


def colour_name(rgb: Colours) -> str:
    """The name of the nearest base colour. Lightness counts half, because shading changes it."""
    names, values = [], []
    for name in BASE:
        for shade in ("", "light", "dark") if name in SHADED else ("",):
            names.append(name)
            values.append(colour(name, shade).rgb)
    weights = np.array([0.5, 1, 1])
    distances = np.linalg.norm((lab(np.array(values, dtype=float)) - lab(rgb.astype(float))) * weights, axis=-1)
    return names[int(distances.argmin())]


def is_colour(rgb: Colours, name: str, shade: str) -> bool:
    """Whether the wanted colour is the nearest, or nearer than a visible difference."""
    if colour_name(rgb) == name:
        return True
    weights = np.array([0.5, 1, 1])
    wanted = lab(np.array(colour(name, shade).rgb, dtype=float))
    return bool(np.linalg.norm((wanted - lab(rgb.astype(float))) * weights) < 14)


def core_of(mask: Mask) -> Mask:
    """The pixels away from the edge, if there are enough."""
    scale = scale_of(mask.shape)
    core = erode(mask, 3 * scale)
    return core if core.sum() > 40 * scale**2 else mask


def object_colour(picture: Pixels, mask: Mask) -> Colours:
    found: Colours = np.median(picture[core_of(mask)], axis=0)
    return found


def background_colour(picture: Pixels, mask: Mask) -> Colours:
    found: Colours = np.median(picture[outside(mask)], axis=0)
    return found


def luminance(rgb: Colours) -> float:
    return float(rgb @ np.array([0.2126, 0.7152, 0.0722]))


def edges(picture: Pixels) -> npt.NDArray[np.float64]:
    """(H, W): differences of neighbouring pixels, in levels per pixel of a picture of 128 px."""
    scale = scale_of(picture.shape)
    smooth = np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(0.7 * scale)), dtype=np.float64)
    down, across = np.gradient(smooth, axis=(0, 1))
    steps: npt.NDArray[np.float64] = scale * np.sqrt((down**2 + across**2).sum(-1) / 3)
    return steps


def line_mask(points: Points, shape: tuple[int, ...], width: int, *, closed: bool) -> Mask:
    canvas = Image.new("L", (shape[1], shape[0]))
    path = [tuple(p) for p in points] + ([tuple(points[0])] if closed else [])
    ImageDraw.Draw(canvas).line(path, fill=255, width=width, joint="curve")
    return np.asarray(canvas) > 0


def shows_line(picture: Pixels, line: Mask, calm: Mask) -> bool:
    """Whether a line is visible: the picture has edges along it that are stronger than where nothing was drawn."""
    strength = edges(picture)
    along = float(strength[line].mean())
    around = float(strength[calm].mean()) if calm.sum() > 20 else 0.0
    return along > EDGE_LEVELS and along > EDGE_RATIO * around


def grid(picture: Pixels, mask: Mask, cells: int = 5) -> Feature:
    """Mean colour and spread of horizontal bands without the object, which distinguish scenes."""
    keep = ~dilate(mask, 3 * scale_of(mask.shape))
    height = len(mask)
    values = []
    overall = picture[keep].mean(0) if keep.any() else picture.mean((0, 1))
    for y in range(cells):
        rows = slice(y * height // cells, (y + 1) * height // cells)
        inside = keep[rows]
        values.append(picture[rows][inside].mean(0) if inside.sum() > 12 else overall)
        values.append(picture[rows][inside].std(0) if inside.sum() > 12 else np.zeros(3))
    return np.concatenate(values)


def nearest(feature: Feature, examples: Mapping[str, Sequence[Feature]], neighbours: int = 5) -> str:
    """The most frequent name of the nearest examples."""
    found = sorted(
        (float(np.linalg.norm(feature - other)), name) for name, others in examples.items() for other in others
    )[:neighbours]
    names = [name for _, name in found]
    return max(set(names), key=names.count)


def difference(first: Pixels, second: Pixels, where: Mask | None = None) -> float:
    """Mean absolute difference in levels."""
    levels = np.abs(first.astype(float) - second.astype(float)).mean(-1)
    return float(levels[where].mean() if where is not None else levels.mean())


def differences(picture: Pixels, rgb: RGB) -> npt.NDArray[np.float64]:
    """(H, W): the distance of each pixel's colour from another, in CIE Lab."""
    found: npt.NDArray[np.float64] = np.linalg.norm(lab(picture.astype(float)) - lab(np.array(rgb, float)), axis=-1)
    return found


def contrast(first: Colours | RGB, second: Colours | RGB) -> float:
    """The visible difference of two colours. Lightness counts half, because shading changes it."""
    weights = np.array([0.5, 1, 1])
    one, other = (lab(np.asarray(value, dtype=float)) * weights for value in (first, second))
    return float(np.linalg.norm(one - other))
