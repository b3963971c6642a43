# SPDX-License-Identifier: Apache-2.0
"""A picture file ↔ a tensor of pixels, for models whose inputs or outputs are images.

A file becomes upright by its EXIF orientation, transparency becomes white, and the colours RGB or grey. It is stretched
to the size in the model's config, with the bilinear filter, as Triton's own image client does. Pillow decodes only
files whose structure was examined before, so that their cost is bounded.
"""

import asyncio
import contextvars
import io
import os
import struct
import zlib
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from typing import Any, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt
import pybase64
from PIL import Image
from pydantic_core import PydanticCustomError

from fastapi_triton.core.errors import InferenceError
from fastapi_triton.endpoints import images
from fastapi_triton.endpoints.image_files.structure import Structure
from fastapi_triton.endpoints.value_errors import InvalidValueError, from_base64, invalid_value
from fastapi_triton.triton.image_dims import ImageDims, Normalize
from fastapi_triton.triton.model_config import TensorConfig

P = ParamSpec("P")
T = TypeVar("T")

# Of a request's pictures together: as tensors, and in pictures of the largest size.
MAX_TENSOR_BYTES = 256 * 1024 * 1024
MAX_FULL_SIZE_PICTURES = 4
# Decoding takes a core and up to 20 bytes for each pixel. Requests with larger pictures have one thread.
_MAX_THREADS = 4
_LARGE_PIXELS = 16_000_000
# The operation that turns a picture upright, by its EXIF orientation.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# The exceptions that Pillow's decoders raise for damaged data.
_DECODING_ERRORS: tuple[type[Exception], ...] = (
    Image.DecompressionBombError,
    *(OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, OverflowError, AssertionError),
    *(struct.error, zlib.error),
)
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
# Normalization → what is subtracted from the values 0 to 255, and the divisor.
_OFFSETS_AND_SCALES: dict[Normalize, tuple[Any, Any]] = {
    "none": (0, 1),
    "unit": (0, 255),
    "inception": (127.5, 127.5),
    "imagenet": (255 * np.array(_IMAGENET_MEAN, np.float32), 255 * np.array(_IMAGENET_DEVIATION, np.float32)),
}


class _LargePictureError(Exception):
    """The request has a large picture, so it is read in the thread for those."""


async def read_in_thread(
    work: Callable[[bytes, images.ImageLimits], T], body: bytes, limits: images.ImageLimits
) -> tuple[T, images.PictureBudget]:
    """Read a request that may have pictures, in one of a few threads. So few pictures at once take memory.

    Returns its result, and what the pictures cost.
    """
    budget = images.PictureBudget(MAX_FULL_SIZE_PICTURES * limits.max_pixels, MAX_TENSOR_BYTES)
    with suppress(_LargePictureError):
        return await _in_thread(_threads(), work, body, replace(limits, budget=budget)), budget
    # Not by a lock: a request that waits for it would keep a thread from the others.
    budget = images.PictureBudget(budget.max_pixels, budget.max_bytes, takes_large=True)
    return await _in_thread(_thread_for_large(), work, body, replace(limits, budget=budget)), budget


async def write_in_thread(work: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """Do work that encodes pictures in one of the threads."""
    return await _in_thread(_threads(), work, *arguments, **options)


async def _in_thread(threads: Executor, work: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(threads, partial(context.run, work, *arguments, **options))


@cache
def _threads() -> Executor:
    return ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1), thread_name_prefix="pictures")


@cache
def _thread_for_large() -> Executor:
    return ThreadPoolExecutor(1, thread_name_prefix="large-pictures")


def read(
    value: str | list[str], tensor: TensorConfig, image: ImageDims, limits: images.ImageLimits
) -> npt.NDArray[Any]:
    """The tensor of a picture in base64, or of a list of them if the tensor has a dimension for that.

    Raises:
        InvalidValueError: it is not a picture, or it is damaged.
        TooLargeError: the pictures are too large.
    """
    if isinstance(value, str):
        pixels = _read_one(value, tensor, image, limits)
        return pixels if image.leading is None else pixels[np.newaxis]
    if image.leading is None or image.leading not in (-1, len(value)):
        wanted = "it takes one picture" if image.leading is None else f"the model takes {image.leading}"
        raise invalid_value("wrong_shape", f"is a list of {len(value)} texts, but {wanted}")
    arrays = []
    for index, text in enumerate(value):
        try:
            arrays.append(_read_one(text, tensor, image, limits))
        except InvalidValueError as error:
            raise InvalidValueError(
                replace(each, location=(index, *each.location)) for each in error.problems
            ) from None
        if arrays[-1].shape != arrays[0].shape:
            reason = f"becomes the shape {list(arrays[-1].shape)}, but the first picture {list(arrays[0].shape)}"
            raise invalid_value("wrong_shape", f"{reason}; send pictures of the same size", (index,))
    return np.stack(arrays)


def _read_one(text: str, tensor: TensorConfig, image: ImageDims, limits: images.ImageLimits) -> npt.NDArray[Any]:
    data = from_base64(text)
    try:
        structure = images.examine(data, limits, field=tensor.name)
    except PydanticCustomError as error:
        raise invalid_value(error.type, error.message()) from None
    size = _size(structure, image)
    if limits.budget is not None:
        if structure.width * structure.height > _LARGE_PIXELS and not limits.budget.takes_large:
            raise _LargePictureError
        num_values = size[0] * size[1] * image.num_channels
        num_bytes = num_values * tensor.datatype.numpy.itemsize
        limits.budget.spend(structure.width * structure.height, num_bytes, is_normalized=bool(image.normalizations))
    picture = _decoded(data, structure, "L" if image.num_channels == 1 else "RGB")
    if picture.size != size:
        picture = picture.resize(size, Image.Resampling.BILINEAR)
    return _pixels(picture, tensor, image)


def _size(structure: Structure, image: ImageDims) -> tuple[int, int]:
    """The width and height in the tensor. If the model fixes only one of them, the aspect ratio is kept."""
    width, height = structure.width, structure.height
    if structure.orientation >= 5:  # turned by 90 degrees
        width, height = height, width
    if image.width == -1 and image.height != -1:
        return max(1, round(width * image.height / height)), image.height
    if image.height == -1 and image.width != -1:
        return image.width, max(1, round(height * image.width / width))
    return (width, height) if image.width == -1 else (image.width, image.height)


def _decoded(data: bytes, structure: Structure, mode: str) -> Image.Image:
    """The first frame, upright, in this mode."""
    Image.init()  # without it, Pillow knows only some formats
    damaged = invalid_value("truncated_image", "is cut off or damaged. Send the whole file.")
    try:
        with Image.open(io.BytesIO(structure.essential(data)), formats=(structure.file_format,)) as opened:
            if sorted(opened.size) != sorted((structure.width, structure.height)):
                raise damaged  # Pillow and `examine` disagree about the file
            opened.load()
            picture = _converted(_without_transparency(opened), mode)
    except InvalidValueError:
        raise
    except _DECODING_ERRORS:
        raise damaged from None
    return picture.transpose(_UPRIGHT[structure.orientation]) if structure.orientation in _UPRIGHT else picture


def _converted(picture: Image.Image, mode: str) -> Image.Image:
    """The picture in this mode. Pillow's `convert` copies one that is already in it."""
    return picture if picture.mode == mode else picture.convert(mode)


def _without_transparency(picture: Image.Image) -> Image.Image:
    """The picture in 8 bits, with white where it is transparent."""
    if picture.mode.startswith("I"):  # 16 bits of grey; Pillow's own conversion clips them at 255
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if not picture.has_transparency_data:
        return picture
    rgba = _converted(picture, "RGBA")
    white = Image.new("RGB", picture.size, "white")
    white.paste(rgba, mask=rgba.getchannel("A"))
    return white


def _pixels(picture: Image.Image, tensor: TensorConfig, image: ImageDims) -> npt.NDArray[Any]:
    """The tensor of a picture that has the right size and colours."""
    pixels = np.asarray(picture).reshape(picture.height, picture.width, image.num_channels)
    if image.normalizations:
        offset, scale = _OFFSETS_AND_SCALES[tensor.normalize]
        pixels = ((pixels.astype(np.float32) - np.float32(offset)) / np.float32(scale)).astype(tensor.datatype.numpy)
    return np.ascontiguousarray(np.moveaxis(pixels, 2, 0) if image.channels_first else pixels)


def as_text(array: npt.NDArray[Any], tensor: TensorConfig, image: ImageDims) -> str | list[str]:
    """The pictures in an output as PNG in base64; a list if the tensor may hold any number.

    Raises:
        InferenceError: a picture has no pixels.
    """
    if image.leading is None:
        return pybase64.b64encode_as_string(as_png(array, tensor, image))
    texts = [pybase64.b64encode_as_string(as_png(each, tensor, image)) for each in array]
    return texts[0] if image.leading == 1 else texts


def as_png(array: npt.NDArray[Any], tensor: TensorConfig, image: ImageDims) -> bytes:
    """One picture, without a dimension before its own, as a PNG file.

    Floats are converted by the tensor's normalization, and clipped; NaN becomes black.

    Raises:
        InferenceError: it has no pixels.
    """
    if not array.size:
        raise InferenceError(f"The model's output `{tensor.name}` has the shape {list(array.shape)}: no pixels.")
    pixels = np.moveaxis(array, 0, 2) if image.channels_first else array
    if image.normalizations:
        offset, scale = _OFFSETS_AND_SCALES[tensor.normalize]
        with np.errstate(over="ignore", invalid="ignore"):
            values = np.nan_to_num(pixels.astype(np.float32) * np.float32(scale) + np.float32(offset))
        pixels = np.rint(np.clip(values, 0, 255)).astype(np.uint8)
    file = io.BytesIO()
    picture = np.ascontiguousarray(pixels[..., 0] if image.num_channels == 1 else pixels)
    Image.fromarray(picture).save(file, "PNG", compress_level=1)
    return file.getvalue()
