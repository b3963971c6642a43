# SPDX-License-Identifier: Apache-2.0
"""Finds the strokes in an opaque 8-bit picture: dark or light, on a clean background or on a photo of paper."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops, ImageFilter

Bytes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

# The long side at which strokes are searched. Photos have half of it, since they are smoothed anyway.
DRAWING_SIDE = 1024
PHOTO_SIDE = 512
# The pixels that are processed at a time, if possible.
BAND_PIXELS = 2**21
# A background is clean if at least this part of the picture's border differs from its median colour by at most this.
CLEAN_PART = 0.8
CLEAN_DIFFERENCE = 20
# Fainter marks, of 255, count as noise of the background.
FAINTEST_STROKE = 16
# A pixel is part of a stroke if it has at least this part of the strong strokes' contrast.
STROKE_CONTRAST = 0.4


@dataclass(frozen=True, slots=True)
class Strokes:
    """A mask of the strokes. Its sides are at most DRAWING_SIDE, so it may be smaller than the picture."""

    mask: Mask  # (h, w)
    is_dark: bool
    is_photo: bool


def find_strokes(picture: Image.Image) -> Strokes:
    """Find the strokes of a picture in mode L or RGB without transparency."""
    ground, is_clean = border_ground(picture)
    if is_clean:
        return strokes_on_clean_ground(picture, ground)
    return strokes_on_uneven_ground(picture)


def border_ground(picture: Image.Image) -> tuple[tuple[int, ...], bool]:
    """The colour of the picture's border, and whether nearly all of the border has it."""
    small = picture.reduce(max(1, max(picture.size) // 256))
    pixels = np.asarray(small).reshape(small.height, small.width, -1)  # (h, w, 1 or 3)
    rim = max(1, max(small.size) // 50)
    border = np.concatenate(
        [
            pixels[:rim].reshape(-1, pixels.shape[2]),
            pixels[-rim:].reshape(-1, pixels.shape[2]),
            pixels[:, :rim].reshape(-1, pixels.shape[2]),
            pixels[:, -rim:].reshape(-1, pixels.shape[2]),
        ]
    ).astype(np.int16)
    ground = np.median(border, axis=0).astype(np.int16)
    differences = np.abs(border - ground).max(axis=1)
    is_clean = float(np.mean(differences <= CLEAN_DIFFERENCE)) >= CLEAN_PART
    return tuple(int(channel) for channel in ground), is_clean


def strokes_on_clean_ground(picture: Image.Image, ground: tuple[int, ...]) -> Strokes:
    """Strokes differ from the background in any colour channel: also yellow on white, and filled shapes."""
    colour = ground if picture.mode == "RGB" else ground[0]
    factor = -(-max(picture.size) // DRAWING_SIDE)
    differences = [difference_from(colour, band) for band in bands_of(picture, factor)]
    # The maximum of each block, not the mean, so that thin lines do not fade when a large drawing shrinks.
    strength = np.concatenate([block_maximum(difference, factor) for difference in differences])
    threshold = stroke_threshold(strength)
    luminance_sum = num_pixels = 0
    for band, difference in zip(bands_of(picture, factor), differences, strict=True):
        luminance = np.asarray(band.convert("L"))[difference > threshold]
        luminance_sum += int(luminance.sum(dtype=np.int64))
        num_pixels += luminance.size
    ground_luminance = Image.new(picture.mode, (1, 1), colour).convert("L").getpixel((0, 0))
    is_dark = num_pixels > 0 and luminance_sum / num_pixels < float(ground_luminance)  # type: ignore[arg-type]
    return Strokes(strength > threshold, is_dark=is_dark, is_photo=False)


def bands_of(picture: Image.Image, factor: int) -> Iterator[Image.Image]:
    """The picture in bands from top to bottom, because a copy of the whole picture may take gigabytes.

    All bands but the last have a multiple of `factor` rows.
    """
    num_rows = factor * max(1, BAND_PIXELS // (picture.width * factor))
    for top in range(0, picture.height, num_rows):
        yield picture.crop((0, top, picture.width, min(top + num_rows, picture.height)))


def difference_from(colour: tuple[int, ...] | int, picture: Image.Image) -> Bytes:
    """The difference of each pixel from a colour, in the channel that differs most."""
    channels = ImageChops.difference(picture, Image.new(picture.mode, picture.size, colour)).split()
    strongest = channels[0]
    for channel in channels[1:]:
        strongest = ImageChops.lighter(strongest, channel)
    return np.asarray(strongest)


def strokes_on_uneven_ground(picture: Image.Image) -> Strokes:
    """Strokes in a photo: the light is uneven and the paper has grain, so pixels are compared with the paper nearby."""
    grey = picture.convert("L").reduce(-(-max(picture.size) // PHOTO_SIDE))
    grey = grey.filter(ImageFilter.GaussianBlur(0.8))
    is_dark = has_dark_strokes(grey)
    paper_is_light = grey if is_dark else ImageChops.invert(grey)
    paper = np.asarray(local_paper(paper_is_light)).astype(np.float32)  # (h, w)
    pixels = np.asarray(paper_is_light).astype(np.float32)
    # Relative to the paper's brightness, strokes in the shadow are as strong as those in the light.
    strength = np.clip((paper - pixels) / np.maximum(paper, 1) * 255, 0, 255).astype(np.uint8)
    mask = without_specks(strength > stroke_threshold(strength, clearance=2))
    return Strokes(mask, is_dark=is_dark, is_photo=True)


def has_dark_strokes(grey: Image.Image) -> bool:
    """Whether the strokes are dark: whether the pixels that differ most from a blurred copy are darker than it."""
    blurred = grey.filter(ImageFilter.BoxBlur(max(grey.size) / 24))
    difference = np.asarray(grey).astype(np.float32) - np.asarray(blurred)
    outstanding = np.sign(difference) * np.maximum(np.abs(difference) - FAINTEST_STROKE, 0) ** 2
    return float(outstanding.sum()) < 0


def local_paper(grey: Image.Image) -> Image.Image:
    """The brightness of the bare paper at each pixel: from the bright pixels of each cell. Cells that a shape fills get
    the brightness of their neighbours."""
    cell = max(4, max(grey.size) // 24)
    grid_size = (-(-grey.width // cell), -(-grey.height // cell))
    pixels = np.asarray(grey.resize((grid_size[0] * cell, grid_size[1] * cell)))
    cells = pixels.reshape(grid_size[1], cell, grid_size[0], cell).swapaxes(1, 2)
    cells = cells.reshape(grid_size[1], grid_size[0], cell * cell)
    brightness = np.partition(cells, cell * cell * 7 // 10, axis=2)[:, :, cell * cell * 7 // 10]  # (gh, gw)
    closed = Image.fromarray(np.pad(brightness, 3, mode="edge"))
    closed = closed.filter(ImageFilter.MaxFilter(7)).filter(ImageFilter.MinFilter(7))
    closed = closed.filter(ImageFilter.GaussianBlur(1)).crop((3, 3, 3 + grid_size[0], 3 + grid_size[1]))
    return closed.resize(grey.size, Image.Resampling.BICUBIC)


def stroke_threshold(strength: Bytes, *, clearance: int = 1) -> int:
    """The threshold between noise and strokes. 255, which nothing exceeds, if there are no strokes.

    Args:
        clearance: how many times stronger than noise strokes must be. Paper has grain with outliers; a clean background
            has none.
    """
    counts = np.bincount(strength.ravel(), minlength=256)
    noise = percentile_of_counts(counts, 0.25)
    floor = min(max(FAINTEST_STROKE, 3 * noise), 64)
    if not counts[floor + 1 :].any():
        return 255
    counts[: floor + 1] = 0
    strong = percentile_of_counts(counts, 0.95)
    return max(floor, int(strong * STROKE_CONTRAST)) if strong >= clearance * floor else 255


def percentile_of_counts(counts: npt.NDArray[np.int64], part: float) -> int:
    return int(np.searchsorted(np.cumsum(counts), part * counts.sum()))


def block_maximum(pixels: Bytes, factor: int) -> Bytes:
    """Shrink by an integer factor, keeping the strongest pixel of each block."""
    if factor <= 1:
        return pixels
    height, width = pixels.shape
    rows = np.maximum.reduceat(pixels, np.arange(0, height, factor), axis=0)
    # Padded only now, when the picture is small, so that a narrow picture takes no more memory.
    padded = np.pad(rows, ((0, 0), (0, -width % factor)))
    shrunk: Bytes = padded.reshape(rows.shape[0], -1, factor).max(axis=2)
    return shrunk


def without_specks(mask: Mask) -> Mask:
    """The mask without pixels that have fewer than two neighbours: these are grain, not strokes."""
    padded = np.pad(mask, 1).astype(np.uint8)
    height, width = mask.shape
    neighbourhood = sum(padded[y : y + height, x : x + width] for y in range(3) for x in range(3))
    return mask & (np.asarray(neighbourhood) >= 3)
