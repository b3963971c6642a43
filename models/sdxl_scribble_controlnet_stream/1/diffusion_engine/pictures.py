# SPDX-License-Identifier: Apache-2.0
"""Reads and writes picture files: base64 text or raw bytes in, with limits; WebP, PNG or JPEG out."""

import base64
import binascii
import hashlib
import io
import re
import string
import struct
import zlib
from dataclasses import dataclass

from PIL import ExifTags, Image, PngImagePlugin

from diffusion_engine.errors import RequestError
from diffusion_engine.image_files.bmp import BMP
from diffusion_engine.image_files.gif import GIF
from diffusion_engine.image_files.jpeg import JPEG
from diffusion_engine.image_files.png import PNG
from diffusion_engine.image_files.structure import Structure, StructureError, scan
from diffusion_engine.image_files.tiff import TIFF
from diffusion_engine.image_files.webp import WEBP

# Only the formats of drawing programs and cameras. Pillow's other decoders never run, so no file can attack them.
INPUT_FORMATS = (PNG, JPEG, WEBP, GIF, BMP, TIFF)
# The default of the parameter `max_side`.
MAX_SIDE = 16_384
# The operation that turns a picture upright, by its EXIF orientation.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

RECEIPT_KEYWORD = "fastapi-triton"
WHITESPACE = b" \t\r\n"
TEXT_BYTES = string.printable.encode()
DATA_URL = re.compile(rb"data:[^,]{0,200}?(;base64)?,", re.IGNORECASE)
# The exceptions that Pillow's decoders of these formats raise for damaged data.
DECODING_ERRORS: tuple[type[Exception], ...] = (
    Image.DecompressionBombError,
    *(OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, OverflowError, AssertionError),
    *(struct.error, zlib.error),
)


@dataclass(frozen=True, slots=True)
class PictureFile:
    """The bytes of a picture file, and whether they were received as base64 text."""

    content: bytes
    is_base64: bool


def read_picture_file(value: bytes, *, field: str = "image") -> PictureFile:
    """Decode an input: raw bytes stay; base64 may have line breaks and a data URL's prefix.

    Raises:
        RequestError: it is neither.
    """
    if value.translate(None, TEXT_BYTES):  # no picture format is printable ASCII throughout
        return PictureFile(value, is_base64=False)
    text = value.translate(None, WHITESPACE)
    if text[:5].lower() == b"data:":
        prefix = DATA_URL.match(text)
        if prefix is None or prefix[1] is None:
            raise RequestError(
                "invalid_base64", f"`{field}` is a data URL without `;base64,`. Send base64.", field=field
            )
        text = text[prefix.end() :]
    if not text:
        raise RequestError("not_an_image", f"`{field}` is empty. Send a picture file.", field=field)
    try:
        return PictureFile(base64.b64decode(text, validate=True), is_base64=True)
    except binascii.Error as error:
        raise RequestError(
            "invalid_base64",
            f"`{field}` is text, but not base64 ({error}). Send a picture file as raw bytes, base64 or a data URL.",
            field=field,
        ) from None


def examine(content: bytes, *, max_pixels: int, max_side: int = MAX_SIDE, field: str = "image") -> Structure:
    """The structure of a picture file, read without decoding it.

    Raises:
        RequestError: it is not a picture, it is damaged, or decoding would take too much memory or work.
    """
    try:
        structure = scan(content, INPUT_FORMATS)
        structure.require(max_pixels=max_pixels, max_side=max_side)
    except StructureError as error:
        raise RequestError(error.code, f"`{field}` {error.reason}", field=field) from None
    return structure


def open_picture(content: bytes, structure: Structure, *, field: str = "image") -> Image.Image:
    """The first frame, decoded and upright. `content` may lack the parts that decoders do not need."""
    Image.init()  # without it, Pillow has only some of INPUT_FORMATS
    try:
        picture: Image.Image = Image.open(io.BytesIO(content), formats=(structure.file_format,))
        if sorted(picture.size) != sorted((structure.width, structure.height)):
            raise damaged(field)  # the decoder and `examine` disagree about the file
        picture.load()
    except DECODING_ERRORS:
        raise damaged(field) from None
    if structure.file_format == "WEBP":
        picture = picture.copy()  # the opened picture keeps the canvases of its animation in memory
    if structure.orientation in UPRIGHT:
        return picture.transpose(UPRIGHT[structure.orientation])
    return picture


def damaged(field: str) -> RequestError:
    return RequestError("truncated_image", f"`{field}` is cut off or damaged. Send the whole file.", field=field)


def encode_picture(picture: Image.Image, *, output_format: str, output_quality: int, receipt: str = "") -> bytes:
    """Encode a picture as a file, with fast settings that make larger files.

    Args:
        receipt: ASCII text for the file: in a PNG the text `fastapi-triton`, else the EXIF user comment.
    """
    buffer = io.BytesIO()
    if output_format == "png":
        texts = PngImagePlugin.PngInfo()
        if receipt:
            texts.add_itxt(RECEIPT_KEYWORD, receipt)
        picture.save(buffer, "PNG", compress_level=1, pnginfo=texts)
        return buffer.getvalue()
    options = {"exif": user_comment(receipt)} if receipt else {}
    if output_format == "webp":
        picture.save(buffer, "WEBP", quality=output_quality, method=0, **options)
    else:
        picture.save(buffer, "JPEG", quality=output_quality, **options)
    return buffer.getvalue()


def hash_of_pixels(picture: Image.Image) -> str:
    """A hash of the size and the pixels, which does not depend on the file format."""
    size = f"{picture.width}x{picture.height}:".encode()
    return hashlib.sha256(size + picture.tobytes()).hexdigest()


def user_comment(text: str) -> Image.Exif:
    """EXIF data with an ASCII text as its user comment."""
    exif = Image.Exif()
    exif[ExifTags.Base.Software] = RECEIPT_KEYWORD
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = b"ASCII\0\0\0" + text.encode("ascii")
    return exif
