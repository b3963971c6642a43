# SPDX-License-Identifier: Apache-2.0
"""Picture files in and out: base64 text or raw bytes, opened with limits, encoded as WebP, PNG or JPEG."""

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

from diffusion_engine.request import RequestError

OUTPUT_FORMATS = ("webp", "png", "jpeg")
# Only what people draw in and photograph with: a decoder that is never reached cannot be attacked.
INPUT_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
MAGIC_BYTES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*")

RECEIPT_KEYWORD = "fastapi-triton"
WHITESPACE = b" \t\r\n"
TEXT_BYTES = string.printable.encode()
DATA_URL = re.compile(rb"data:[^,]{0,200}?(;base64)?,", re.IGNORECASE)
# What Pillow's decoders raise on damaged data, over all formats above.
DECODING_ERRORS = (
    *(OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, OverflowError),
    *(struct.error, zlib.error),
)


@dataclass(frozen=True, slots=True)
class PictureFile:
    """The bytes of a picture file, and whether they came as base64 text; the answer goes back the same way."""

    content: bytes
    is_text: bool


def read_picture_file(value: bytes, *, field: str = "image") -> PictureFile:
    """Raw bytes stay; base64 may have line breaks or a data URL's prefix, and anything else is refused."""
    if value.translate(None, TEXT_BYTES):  # no picture format is printable ASCII throughout
        return PictureFile(value, is_text=False)
    text = value.translate(None, WHITESPACE)
    if text[:5].lower() == b"data:":
        prefix = DATA_URL.match(text)
        if prefix is None or prefix[1] is None:
            raise RequestError("invalid_base64", f"{field} is a data URL without ;base64,", field=field)
        text = text[prefix.end() :]
    if not text:
        raise RequestError("not_an_image", f"{field} is empty; send a picture file", field=field)
    try:
        return PictureFile(base64.b64decode(text, validate=True), is_text=True)
    except binascii.Error as error:
        raise RequestError(
            "invalid_base64",
            f"{field} is text but not base64 ({error}); send a picture file as raw bytes, base64 or data URL",
            field=field,
        ) from None


def open_picture(content: bytes, *, max_pixels: int, field: str = "image") -> Image.Image:
    """The first frame, decoded. Its size is checked from the header, before memory is spent on it."""
    Image.init()  # without it, Pillow knows only some of INPUT_FORMATS
    try:
        picture = Image.open(io.BytesIO(content), formats=INPUT_FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise too_large("more", max_pixels, field) from None
    except DECODING_ERRORS:
        raise unreadable(content, field) from None
    if picture.width * picture.height > max_pixels:
        raise too_large(f"{picture.width}x{picture.height}", max_pixels, field)
    try:
        picture.load()
    except DECODING_ERRORS:
        raise truncated(field) from None
    return picture


def unreadable(content: bytes, field: str) -> RequestError:
    is_known = content.startswith(MAGIC_BYTES) or (content[:4] == b"RIFF" and content[8:12] == b"WEBP")
    if is_known:
        return truncated(field)
    return RequestError(
        "not_an_image",
        f"{field} holds {len(content)} bytes that are no picture; send PNG, JPEG, WebP, GIF, BMP or TIFF",
        field=field,
    )


def truncated(field: str) -> RequestError:
    return RequestError("truncated_image", f"{field} is cut off or damaged; send the whole file", field=field)


def too_large(size: str, max_pixels: int, field: str) -> RequestError:
    detail = f"{field} has {size} pixels, and at most {max_pixels} are decoded; send a smaller picture"
    return RequestError("image_too_large", detail, field=field)


def encode_picture(picture: Image.Image, *, output_format: str, output_quality: int, receipt: str = "") -> bytes:
    """The fast settings: a picture is made in seconds and looked at once, so file size matters little.

    `receipt`, ASCII, goes into the file: in a PNG as the text `fastapi-triton`, else as the EXIF user comment.
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
    """The same for the same picture, in whatever file it comes."""
    size = f"{picture.width}x{picture.height}:".encode()
    return hashlib.sha256(size + picture.tobytes()).hexdigest()


def user_comment(text: str) -> Image.Exif:
    """EXIF data with an ASCII text as its user comment."""
    exif = Image.Exif()
    exif[ExifTags.Base.Software] = RECEIPT_KEYWORD
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = b"ASCII\0\0\0" + text.encode("ascii")
    return exif
