# SPDX-License-Identifier: Apache-2.0
"""Fits the picture to start from, and the mask of its region, to the size of the result. Imports no torch."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from diffusion_engine.decoding import Decoding
from diffusion_engine.image_files.structure import Structure
from diffusion_engine.pictures import DECODING_ERRORS, damaged, open_picture
from diffusion_engine.placement import Placement
from diffusion_engine.scribble import to_8_bits

# The part of a mask that is painted anew.
MASK_SELECTS = ("white", "black", "transparent")
MAX_MASK_BLUR = 64.0
# Shrinking by more than this factor first averages blocks of pixels, which is faster and looks the same.
REDUCING_GAP = 3.0


@dataclass(frozen=True, slots=True)
class FittedDecoding(Decoding[Image.Image]):
    """A picture of this size on a canvas. The result has the canvas's size, and is packed as its plain pixels."""

    mode: ClassVar[str]
    canvas: tuple[int, int]
    size: tuple[int, int]

    @property
    def placement(self) -> Placement:
        return Placement(self.canvas, self.size)

    def pack(self, result: Image.Image) -> tuple[dict[str, Any], bytes]:
        return {}, result.tobytes()

    def unpack(self, facts: dict[str, Any], content: bytes) -> Image.Image:  # noqa: ARG002
        return Image.frombytes(self.mode, self.canvas, content)


@dataclass(frozen=True, slots=True)
class PictureDecoding(FittedDecoding):
    """The colours (RGB), on white. A picture of another shape is not cropped: the colours of its edges continue."""

    field: ClassVar[str] = "init_image"
    mode: ClassVar[str] = "RGB"

    @classmethod
    def at(cls, placement: Placement) -> Self:
        return cls(placement.canvas, placement.size)

    def decode(self, content: bytes, structure: Structure) -> Image.Image:
        with reading(self.field):
            picture = open_upright(content, structure, field=self.field)
            fitted = resized(with_alpha(picture), self.size)
            white = Image.new("RGBA", fitted.size, "white")
            flat = Image.alpha_composite(white, fitted.convert("RGBA")).convert("RGB")
        return extended(flat, self.placement)


@dataclass(frozen=True, slots=True)
class MaskDecoding(FittedDecoding):
    """A mask (L), white where the result is painted anew. Transparent pixels are kept, unless they are selected."""

    field: ClassVar[str] = "mask"
    mode: ClassVar[str] = "L"
    selects: str
    blur: float

    @classmethod
    def at(cls, placement: Placement, *, selects: str, blur: float) -> Self:
        return cls(placement.canvas, placement.size, selects, blur)

    def decode(self, content: bytes, structure: Structure) -> Image.Image:
        with reading(self.field):
            picture = open_upright(content, structure, field=self.field)
            mask = resized(self._selected(with_alpha(picture)), self.size)
        fitted = extended(mask, self.placement)
        return fitted.filter(ImageFilter.GaussianBlur(self.blur)) if self.blur else fitted

    def _selected(self, picture: Image.Image) -> Image.Image:
        alpha = picture.getchannel("A") if picture.mode == "RGBA" else None
        if self.selects == "transparent":
            return Image.new("L", picture.size) if alpha is None else ImageChops.invert(alpha)
        grey = picture.convert("L")
        if self.selects == "black":
            grey = ImageChops.invert(grey)
        return grey if alpha is None else ImageChops.multiply(grey, alpha)


@contextmanager
def reading(field: str) -> Iterator[None]:
    """Reports damage that shows only when colours are converted, such as a short palette."""
    try:
        yield
    except DECODING_ERRORS:
        raise damaged(field) from None


def open_upright(content: bytes, structure: Structure, *, field: str) -> Image.Image:
    picture = open_picture(content, structure, field=field)
    if picture.size != structure.upright_size:
        raise damaged(field)  # its place was computed for another shape
    return picture


def with_alpha(picture: Image.Image) -> Image.Image:
    """The picture in 8 bits: RGBA if it has transparency, else RGB or L."""
    if picture.has_transparency_data:
        return picture.convert("RGBA")
    if picture.mode.startswith(("I", "F")):
        return to_8_bits(picture)
    return picture.convert("L" if picture.mode in ("1", "L") else "RGB")


def resized(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    if picture.size == size:
        return picture
    return picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=REDUCING_GAP)


def extended(picture: Image.Image, placement: Placement) -> Image.Image:
    """The picture at its place; its edge pixels are repeated to the borders of the canvas."""
    left, top, right, bottom = placement.margins
    if not any((left, top, right, bottom)):
        return picture
    pixels = np.asarray(picture)
    around = ((top, bottom), (left, right), (0, 0))[: pixels.ndim]
    return Image.fromarray(np.pad(pixels, around, mode="edge"))
