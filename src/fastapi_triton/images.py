# SPDX-License-Identifier: Apache-2.0
"""Pictures at the door: base64 text or a data URL in, checked base64 text out. Only headers are read here; the model
decodes."""

import io
import zlib
from dataclasses import dataclass
from typing import Annotated

import pybase64
from PIL import Image, UnidentifiedImageError
from pydantic import AfterValidator, Field, ValidationInfo
from pydantic_core import PydanticCustomError

from fastapi_triton.errors import FieldProblem, TooLargeError

READABLE_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
_MAGIC = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif"}
# The signature, and the head of the first chunk; and what the smallest PNG there is takes.
_PNG_START = b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR"
_PNG_LEAST = 67


# Pillow reads a header piece by piece, a JPEG's padding byte by byte. Files that people have take some hundreds of
# reads; one that is made of nothing else would have it busy for seconds.
_MAX_READS = 10_000


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What a request may hold. Given to pydantic as the validation context."""

    max_pixels: int
    # In JSON: values, lists and objects, about.
    max_elements: int = 1_000_000


class _Header(io.BytesIO):
    """A file that is not read for ever."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._reads_left = _MAX_READS

    def read(self, size: int | None = -1, /) -> bytes:
        self._reads_left -= 1
        if self._reads_left < 0:
            raise OSError("the header has no end")
        return super().read(size)


class _Marker:
    """Says that a field holds a picture; found again in a model's fields."""


def media_type(data: bytes) -> str | None:
    """The media type of a picture's bytes, from its first ones; None for anything else."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((media for magic, media in _MAGIC.items() if data.startswith(magic)), None)


def decode(text: str) -> bytes:
    """Bytes of base64 text. Line breaks and a data URL prefix are fine, nothing else is.

    Raises:
        ValueError: it is not base64; the text says why.
    """
    return _clean(text)[1]


def _clean(text: str) -> tuple[str, bytes]:
    """Base64 text without what may be around and within it, and its bytes.

    Raises:
        ValueError: it is not base64.
    """
    if text.startswith("data:"):
        head, comma, text = text.partition(",")
        if not comma or not head.endswith(";base64"):
            raise ValueError("a data URL must be of the form data:image/png;base64,…")
    try:
        # One pass over the usual text; only where it holds white space is it cleaned first.
        return text, pybase64.b64decode(text, validate=True)
    except ValueError:
        cleaned = "".join(text.split())
        if len(cleaned) % 4:
            raise ValueError(
                f"it has {len(cleaned)} characters, no multiple of 4, so it is cut off or its padding is missing"
            ) from None
        try:
            return cleaned, pybase64.b64decode(cleaned, validate=True)
        except ValueError:
            raise ValueError("it has characters that are not of the base64 alphabet (A-Z a-z 0-9 + / =)") from None


def size(data: bytes) -> tuple[int, int]:
    """Width and height of a picture that a model made, from its header.

    Raises:
        OSError: it is no picture.
    """
    with Image.open(io.BytesIO(data), formats=READABLE_FORMATS) as image:
        return image.size


def check(data: bytes, limits: ImageLimits) -> None:
    """Read a picture's header; its pixels are left alone.

    Raises:
        PydanticCustomError: no picture that we read.
        TooLargeError: more pixels than allowed.
    """
    try:
        width, height = _png_size(data) if _is_png(data) else _size(data)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large("The picture", limits) from None
    except UnidentifiedImageError:
        raise PydanticCustomError(
            "not_an_image", "These bytes are no PNG, JPEG, WebP, GIF or BMP picture. Send one of these."
        ) from None
    except (OSError, SyntaxError, ValueError, EOFError):
        raise PydanticCustomError(
            "truncated_image", "The picture's header is broken or cut off. Send it whole."
        ) from None
    if width * height > limits.max_pixels:
        raise _too_large(f"The picture has {width} x {height} pixels; it", limits)


def _is_png(data: bytes) -> bool:
    return data.startswith(_PNG_START[:8]) and len(data) >= _PNG_LEAST


def _png_size(data: bytes) -> tuple[int, int]:
    """Width and height of a PNG, whose first chunk must be as it must be. Most pictures are such, and Pillow takes ten
    times as long as everything else that is checked; it would also unpack what else the file holds.

    Raises:
        OSError: it does not begin so.
    """
    is_whole = zlib.crc32(data[12:29]) == int.from_bytes(data[29:33])
    width, height = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    if data[:16] != _PNG_START or not is_whole or not width or not height:
        raise OSError("no PNG begins like this")
    return width, height


def _size(data: bytes) -> tuple[int, int]:
    with Image.open(_Header(data), formats=READABLE_FORMATS) as image:
        return image.size


def _too_large(subject: str, limits: ImageLimits) -> TooLargeError:
    detail = f"{subject} is over the limit of {limits.max_pixels:,} pixels. Make it smaller."
    return TooLargeError(detail, code="image_too_large", problems=[FieldProblem("#/image", "image_too_large", detail)])


def _checked_text(value: str, info: ValidationInfo) -> str:
    """Runs inside pydantic's validation of a `Base64Image`, with the limits as its context."""
    if not isinstance(info.context, ImageLimits):  # one of ours on its way out, or a user's own model
        return value
    if not value:
        raise PydanticCustomError("not_an_image", "The picture is empty. Send the bytes of a PNG, JPEG or WebP file.")
    try:
        text, data = _clean(value)
    except ValueError as error:
        raise PydanticCustomError("invalid_base64", "This is not base64: {reason}.", {"reason": str(error)}) from None
    check(data, info.context)
    return text


Base64Image = Annotated[
    str,
    _Marker(),
    AfterValidator(_checked_text),
    Field(
        json_schema_extra={"contentEncoding": "base64", "contentMediaType": "image/*"},
        examples=["iVBORw0KGgo…"],
    ),
]
"""A picture in a request or an answer: base64 text, in JSON; a file, in a form. The tensor holds base64 text too."""


def is_image(metadata: list[object]) -> bool:
    """Whether a pydantic field (its `metadata`) is a `Base64Image`."""
    return any(isinstance(item, _Marker) for item in metadata)
