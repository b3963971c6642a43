# SPDX-License-Identifier: Apache-2.0
"""Converts a picture of a scribble to the ControlNet's input: white strokes on black, 0 and 255 only, at its size."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops

from diffusion_engine.decoding import Decoding
from diffusion_engine.image_files.structure import Structure
from diffusion_engine.pictures import DECODING_ERRORS, damaged, examine, open_picture
from diffusion_engine.placement import Placement
from diffusion_engine.strokes import Mask, Strokes, bands_of, find_strokes

# A picture counts as transparent if at least this part of it is more than half transparent.
TRANSPARENT_PART = 0.002
# Opaque pixels of any colour are strokes if they are less than this part of the picture, or differ in brightness by
# less than EQUALLY_BRIGHT. Otherwise they are cut-out paper with strokes on it.
STROKES_PART = 0.35
EQUALLY_BRIGHT = 96
# If strokes are more than this part of the picture, the background was probably mistaken for the strokes.
SUSPICIOUS_PART = 0.6
# Thinning takes one iteration for each pixel of a stroke's width, so wide strokes are thinned at this size.
THINNING_SIDE = 256
# Enlarged strokes are thinned to about this part of the picture's long side: the width of a pen's stroke.
PEN_PART = 1 / 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Scribble:
    """The strokes of one picture file, and how they were found."""

    size: tuple[int, int]  # width, height, upright
    strokes: Mask  # (h, w), smaller than a large picture
    file_format: str
    inverted: bool
    flattened: bool
    rotated: bool
    is_photo: bool
    num_frames: int

    def fit(self, width: int, height: int) -> Image.Image:
        """The control image of this size. The aspect ratio is kept; the rest is black."""
        place = Placement.of(self.size, (width, height))
        strokes = resize_strokes(self.strokes, place.size)
        canvas = Image.new("L", (width, height))
        canvas.paste(Image.fromarray(strokes.astype(np.uint8) * 255), place.margins[:2])
        return canvas.convert("RGB")

    def describe(self) -> dict[str, Any]:
        """How the scribble was processed: facts for programs, and `notes` for people."""
        return {
            "format": self.file_format,
            "width": self.size[0],
            "height": self.size[1],
            "inverted": self.inverted,
            "flattened": self.flattened,
            "rotated": self.rotated,
            "photo": self.is_photo,
            "stroke_part": round(float(self.strokes.mean()), 4),
            "notes": self.notes(),
        }

    def notes(self) -> list[str]:
        part = float(self.strokes.mean())
        facts = {
            "the strokes are dark on light, and were inverted": self.inverted,
            "the transparent background was filled": self.flattened,
            "the scribble was turned upright by its EXIF orientation": self.rotated,
            "the scribble was processed as a photo, because its background is uneven": self.is_photo,
            f"only the first of {self.num_frames} frames was used": self.num_frames > 1,
            "no strokes were found, so the picture follows only the prompt": part == 0,
            "most of the scribble counts as strokes; if that is wrong, set `invert` to yes or no": part
            > SUSPICIOUS_PART,
        }
        return [note for note, holds in facts.items() if holds]


@dataclass(frozen=True, slots=True)
class ScribbleDecoding(Decoding[Scribble]):
    """Finds the strokes of a scribble. They are packed with one bit for each pixel."""

    field: ClassVar[str] = "image"
    invert: str

    def decode(self, content: bytes, structure: Structure) -> Scribble:
        return decode_scribble(content, structure, self.invert)

    def pack(self, result: Scribble) -> tuple[dict[str, Any], bytes]:
        facts = {name: getattr(result, name) for name in FACTS} | {"shape": result.strokes.shape}
        return facts, np.packbits(result.strokes).tobytes()

    def unpack(self, facts: dict[str, Any], content: bytes) -> Scribble:
        height, width = facts.pop("shape")
        bits = np.unpackbits(np.frombuffer(content, np.uint8), count=height * width)
        strokes = bits.reshape(height, width).astype(np.bool_)
        return Scribble(**{**facts, "size": tuple(facts["size"])}, strokes=strokes)


# The fields of `Scribble` besides its strokes.
FACTS = ("size", "file_format", "inverted", "flattened", "rotated", "is_photo", "num_frames")


def read_scribble(content: bytes, *, max_pixels: int, invert: str = "auto") -> Scribble:
    """Examine a picture file, decode it, and find its strokes, all in this process."""
    structure = examine(content, max_pixels=max_pixels)
    return decode_scribble(structure.essential(content), structure, invert)


def decode_scribble(content: bytes, structure: Structure, invert: str) -> Scribble:
    """Decode a picture and find its strokes. `invert` yes: they are the dark parts; no: the light parts."""
    picture = open_picture(content, structure)
    try:
        flat, flattened = flatten(picture)
    except DECODING_ERRORS:  # a damaged palette, which is only read here
        raise damaged("image") from None
    found = pure_strokes(flat, invert) if picture.mode == "1" and invert != "auto" else find_strokes(flat)
    strokes, is_dark = override_polarity(found, invert)
    return Scribble(
        size=picture.size,
        strokes=strokes,
        file_format=structure.file_format,
        inverted=is_dark,
        flattened=flattened,
        rotated=structure.orientation != 1,
        is_photo=found.is_photo,
        num_frames=structure.num_frames,
    )


def pure_strokes(picture: Image.Image, invert: str) -> Strokes:
    """The strokes of a two-colour picture whose stroke colour is known, such as a receipt's scribble: every pixel."""
    is_dark = invert == "yes"
    return Strokes((np.asarray(picture) > 0) != is_dark, is_dark=is_dark, is_photo=False)


def override_polarity(found: Strokes, invert: str) -> tuple[Mask, bool]:
    if invert == "auto" or found.is_dark == (invert == "yes") or not found.mask.any():
        return found.mask, found.is_dark
    return ~found.mask, not found.is_dark


def flatten(picture: Image.Image) -> tuple[Image.Image, bool]:
    """The picture in 8 bits, grey or RGB, without transparency; and whether it had any."""
    if picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        opaque = rgba.getchannel("A").point(lambda alpha: 255 if alpha >= 128 else 0)
        opaque_part = opaque.histogram()[255] / (opaque.width * opaque.height)
        if opaque_part <= 1 - TRANSPARENT_PART:
            return fill_transparency(rgba, opaque, opaque_part), True
        return rgba.convert("RGB"), False
    if picture.mode.startswith(("I", "F")):
        return to_8_bits(picture), False
    if picture.mode in ("1", "L"):
        return picture.convert("L"), False
    return picture.convert("RGB"), False


def fill_transparency(rgba: Image.Image, opaque: Image.Image, opaque_part: float) -> Image.Image:
    """Fill the transparent parts in contrast to the strokes: white for dark strokes, black for light ones."""
    brightness = np.array(rgba.convert("L").histogram(mask=opaque))
    if not brightness.any():
        return Image.new("L", rgba.size, 0)
    dark, middle, light = (
        int(np.searchsorted(np.cumsum(brightness), part * brightness.sum())) for part in (0.005, 0.5, 0.995)
    )
    alpha = rgba.getchannel("A")
    if opaque_part < STROKES_PART or light - dark < EQUALLY_BRIGHT:
        # All opaque pixels are strokes, so only alpha counts: a yellow pen's strokes are as strong as a black pen's.
        return ImageChops.invert(alpha) if middle < 128 else alpha
    paper = Image.new("RGB", rgba.size, "white" if middle >= 128 else "black")
    paper.paste(rgba.convert("RGB"), mask=alpha)
    return paper


def to_8_bits(picture: Image.Image) -> Image.Image:
    """Scale 16-bit and floating-point grey to 8 bits. Pillow's own conversion clips at 255."""
    brightest = max(float(pixels.max()) for pixels in finite_bands(picture))
    # The fewest bits, 8 to 16, that hold the brightest pixel: scanners and cameras often use 10, 12 or 14.
    num_bits = max(8, int(brightest).bit_length())
    full_scale = 1.0 if picture.mode == "F" and brightest <= 1 else float(2**num_bits - 1)
    scaled = [np.clip(pixels / full_scale * 255, 0, 255).astype(np.uint8) for pixels in finite_bands(picture)]
    return Image.fromarray(np.concatenate(scaled))


def finite_bands(picture: Image.Image) -> Iterator[npt.NDArray[np.float32]]:
    """The pixels as numbers, in bands from top to bottom; NaN and infinity are 0."""
    for band in bands_of(picture, 1):
        yield np.nan_to_num(np.asarray(band).astype(np.float32), posinf=0.0, neginf=0.0)


def resize_strokes(strokes: Mask, size: tuple[int, int]) -> Mask:
    """Resize strokes. Shrinking keeps lines of one pixel; enlarging keeps pen strokes thin."""
    if max(size) > THINNING_SIDE > max(strokes.shape):
        part = THINNING_SIDE / max(size)
        strokes = resize_strokes(strokes, (max(1, round(size[0] * part)), max(1, round(size[1] * part))))
    coverage = Image.fromarray(strokes.astype(np.uint8) * 255)
    factor = strokes.shape[1] / size[0]
    if factor >= 1:
        shrunk = np.asarray(coverage.resize(size, Image.Resampling.BOX))
        # A line of one pixel covers 1/factor of the pixels that it touches; a single speck covers much less.
        return np.asarray(shrunk >= max(1, int(127 / factor)))
    enlarged = np.asarray(coverage.resize(size, Image.Resampling.BILINEAR)) >= 128
    return thin(enlarged, round((1 / factor - max(size) * PEN_PART) / 2))


def thin(strokes: Mask, num_layers: int) -> Mask:
    """Remove layers from both sides of each stroke without breaking it (Zhang and Suen, 1984)."""
    for _ in range(num_layers):
        for corner_pairs in (((0, 2, 4), (2, 4, 6)), ((0, 2, 6), (0, 4, 6))):
            around = neighbours(strokes)  # (8, h, w), clockwise from above
            num_neighbours = around.sum(axis=0)
            num_crossings = (~around & np.roll(around, -1, axis=0)).sum(axis=0)
            removable = (num_neighbours >= 2) & (num_neighbours <= 6) & (num_crossings == 1)
            for first, second, third in corner_pairs:
                removable &= ~(around[first] & around[second] & around[third])
            strokes = strokes & ~removable
    return strokes


def neighbours(strokes: Mask) -> Mask:
    padded = np.pad(strokes, 1)
    height, width = strokes.shape
    offsets = ((0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0), (0, 0))
    return np.stack([padded[y : y + height, x : x + width] for y, x in offsets])
