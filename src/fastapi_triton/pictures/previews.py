# SPDX-License-Identifier: Apache-2.0
"""A model's preview, small and in whatever format, → a picture of the size and in the format that was asked for."""

import asyncio
import io
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import pybase64
from PIL import Image

from fastapi_triton.core.errors import InferenceError, TooLargeError
from fastapi_triton.endpoints import images
from fastapi_triton.pictures.text_to_image import Capabilities, Size

# A preview is small; what unpacks to more than this is none. (A model is believed less than its pictures are wanted.)
MAX_PIXELS = 16_777_216
_LIMITS = images.ImageLimits(MAX_PIXELS)
# What Pillow's decoders raise on damaged data.
_DECODING_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
)
# As fast as each format writes: a preview is looked at for a second.
_OPTIONS = {"png": {"compress_level": 1}, "webp": {"method": 0, "quality": 80}, "jpeg": {"quality": 80}}


async def as_picture(preview: str, *, output_format: str, size: Size | None = None) -> str:
    """Base64 text in and out; without a size it keeps its own. The work is done in a thread.

    Raises:
        InferenceError: the preview is not a picture.
    """
    return await asyncio.to_thread(_convert, preview, output_format, size)


async def as_whole_picture(
    preview: str, fields: Mapping[str, Any], capabilities: Capabilities, *, output_format: str
) -> tuple[str, Size]:
    """A preview in the size that the picture of these fields will have; and that size.

    Raises:
        InferenceError: the preview is not a picture.
    """
    width, height = fields.get("width"), fields.get("height")
    try:
        size = (
            (width, height) if width and height else capabilities.size_shaped_like(images.size(images.decode(preview)))
        )
    except ValueError:
        raise InferenceError("The model gave a preview that is no picture.") from None
    return await as_picture(preview, output_format=output_format, size=size), size


def _convert(preview: str, output_format: str, size: Size | None) -> str:
    try:
        data = images.decode(preview)
        images.check(data, _LIMITS)
        with Image.open(io.BytesIO(data), formats=images.READABLE_FORMATS) as opened:
            image = opened.convert("RGB")
    except TooLargeError:
        raise InferenceError("The model sent a preview that is too large.") from None
    except _DECODING_ERRORS:
        raise InferenceError("The model gave a preview that is no picture.") from None
    if size is not None and size != image.size:
        image = image.resize(size, Image.Resampling.BICUBIC)
    file = io.BytesIO()
    image.save(file, output_format.upper(), **_OPTIONS[output_format])
    return pybase64.b64encode(file.getvalue()).decode("ascii")
