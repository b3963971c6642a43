# SPDX-License-Identifier: Apache-2.0
"""Converts a model's previews, which are small and of any format, to the size and format of the request."""

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

# Decoding a larger preview would cost too much memory. A real one is much smaller.
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
# The fastest options of each format: a preview is visible for a second only.
_OPTIONS = {"png": {"compress_level": 1}, "webp": {"method": 0, "quality": 80}, "jpeg": {"quality": 80}}


async def as_picture(preview: str, *, output_format: str, size: Size | None = None) -> str:
    """Convert a preview, from base64 text to base64 text, in a thread. Without `size` it keeps its own size.

    Raises:
        InferenceError: the preview is not a picture.
    """
    return await asyncio.to_thread(_convert, preview, output_format, size)


async def as_whole_picture(
    preview: str, fields: Mapping[str, Any], capabilities: Capabilities, *, output_format: str
) -> tuple[str, Size]:
    """A preview enlarged to the size of the picture that a request with these fields makes, and that size.

    Raises:
        InferenceError: the preview is not a picture.
    """
    width, height = fields.get("width"), fields.get("height")
    try:
        size = (
            (width, height) if width and height else capabilities.size_shaped_like(images.size(images.decode(preview)))
        )
    except ValueError:
        raise InferenceError("The model returned a preview that is not a picture.") from None
    return await as_picture(preview, output_format=output_format, size=size), size


def _convert(preview: str, output_format: str, size: Size | None) -> str:
    try:
        data = images.decode(preview)
        images.check(data, _LIMITS, field="preview")
        with Image.open(io.BytesIO(data), formats=images.READABLE_FORMATS) as opened:
            image = opened.convert("RGB")
    except TooLargeError:
        raise InferenceError(f"The model returned a preview of more than {MAX_PIXELS:,} pixels.") from None
    except _DECODING_ERRORS:
        raise InferenceError("The model returned a preview that is not a picture.") from None
    if size is not None and size != image.size:
        image = image.resize(size, Image.Resampling.BICUBIC)
    file = io.BytesIO()
    image.save(file, output_format.upper(), **_OPTIONS[output_format])
    return pybase64.b64encode(file.getvalue()).decode("ascii")
