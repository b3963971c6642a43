# SPDX-License-Identifier: Apache-2.0
"""Pictures in requests: takes base64 text or a data URL, checks it, and returns base64 text. The model decodes it."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin

import pybase64
from pydantic import AfterValidator, BaseModel, Field, ValidationInfo
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from fastapi_triton.core.errors import FieldProblem, InvalidRequestError, TooLargeError, pointer, shown
from fastapi_triton.endpoints.image_files.bmp import BMP
from fastapi_triton.endpoints.image_files.gif import GIF
from fastapi_triton.endpoints.image_files.jpeg import JPEG
from fastapi_triton.endpoints.image_files.png import PNG
from fastapi_triton.endpoints.image_files.structure import Structure, StructureError, scan
from fastapi_triton.endpoints.image_files.webp import WEBP
from fastapi_triton.endpoints.request_body.large_json import DEFAULT_MAX_TEXT_BYTES, UNCHECKED_BYTES

_FORMATS = (PNG, JPEG, WEBP, GIF, BMP)
# Pillow's names of them.
READABLE_FORMATS = tuple(each.name for each in _FORMATS)
TOO_LARGE = "image_too_large"
# A scribble for examples: a house, 64x64, as PNG in base64.
SCRIBBLE = (
    "iVBORw0KGgoAAAANSUhEUgAAAEAAAABAAQAAAACCEkxzAAAArUlEQVR42q3SMQ4BURCA4f8NoVsXwHIDpXKP5AZbKh3BVbZ0DIk9"
    "ACqbvPgVNhGUTPVlZpLJTCbJM4KfYQOg5lINIG/6UrfucZ32aIu+eXKrNcDVqIGAe5WOgN50pwEdrCHgClMIaKGAgAOMAS011wYu"
    "IBqCewXpCJ5Vt+JJ9WTQAhQEB4AxWKrmeugsAfNlpAogVZhV9/7hPt+4DD8zg/OfR7wDM0D5Wif99gAPxytWhKnfwbcAAAAASUVO"
    "RK5CYII="
)
_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/=]")
_WHITE_SPACE = b" \t\r\n\v\f"
_MAGIC = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif"}


class PictureBudget:
    """What the pictures of one request may cost together, in image tensors: pixels to decode, and bytes of tensors."""

    def __init__(self, max_pixels: int, max_bytes: int, *, takes_large: bool = False) -> None:
        self.max_pixels = self._pixels_left = max_pixels
        self.max_bytes = self._bytes_left = max_bytes
        # Whether its thread is the one for large pictures.
        self.takes_large = takes_large
        # The pictures whose values were normalized.
        self.num_normalized = 0

    def spend(self, pixels: int, num_bytes: int, *, is_normalized: bool) -> None:
        """Account for one more picture.

        Raises:
            TooLargeError: the pictures exceed the budget.
        """
        self.num_normalized += is_normalized
        self._pixels_left -= pixels
        self._bytes_left -= num_bytes
        if self._pixels_left < 0:
            problem = f"have more than {self.max_pixels:,} pixels"
        elif self._bytes_left < 0:
            problem = f"become tensors of more than {self.max_bytes:,} bytes"
        else:
            return
        raise TooLargeError(f"The request's pictures {problem} together. Send fewer or smaller ones.", code=TOO_LARGE)


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """The limits of one request. pydantic gets them as its validation context."""

    max_pixels: int
    # In JSON: the approximate number of values, lists and objects.
    max_elements: int = 1_000_000
    # Of a picture's width and height, in pixels.
    max_side: int = 16_384
    # In JSON: bytes of texts that are not ASCII.
    max_text_bytes: int = DEFAULT_MAX_TEXT_BYTES
    # Of the pictures that are decoded here, together. Each request has its own.
    budget: PictureBudget | None = None


class LongPictureError(InvalidRequestError):
    """The problem of a long picture in JSON. `field` is the name in the pydantic model.

    It ends the validation at once: pydantic's own errors would hold two further copies of the text.
    """

    def __init__(self, error: PydanticCustomError, field: str) -> None:
        self.field = field
        self.reason = error.message()
        detail = f"`{field}` {self.reason}"
        problem = FieldProblem(pointer((field,)), error.type, detail)
        super().__init__(detail, code=error.type, problems=[problem])


class _Marker:
    """Marks a pydantic field that holds a picture."""


@dataclass(frozen=True, slots=True)
class PictureMembers:
    """The members in which an object may hold the text of a picture, for a field that takes such objects too."""

    names: tuple[str, ...]


def media_type(data: bytes) -> str | None:
    """The media type of a picture's bytes, from its first ones; None for anything else."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((media for magic, media in _MAGIC.items() if data.startswith(magic)), None)


def decode(text: str) -> bytes:
    """Bytes of base64 text, which may have white space and a data URL prefix.

    Raises:
        ValueError: it is not base64; the message says why.
    """
    return _clean(text)[1]


def _clean(text: str) -> tuple[str, bytes]:
    """Base64 text without white space and data URL prefix, and its bytes.

    Raises:
        ValueError: it is not base64.
    """
    if text.startswith("data:"):
        head, comma, text = text.partition(",")
        if not comma or not head.endswith(";base64"):
            raise ValueError("a data URL must be of the form data:image/png;base64,…")
    try:
        # Most texts have no white space, so decode first, and remove white space only if that fails.
        return text, pybase64.b64decode(text, validate=True)
    except ValueError:
        pass
    try:
        if any(map(text.count, _WHITE_SPACE.decode())):
            text = text.encode("ascii", "replace").translate(None, _WHITE_SPACE).decode()
        return text, pybase64.b64decode(text, validate=True)
    except ValueError:
        raise ValueError(_why_not_base64(text)) from None


def _why_not_base64(text: str) -> str:
    """Why text without white space is not base64."""
    if text.startswith(("http://", "https://")):
        return "it is a URL, which the server does not fetch; send the bytes"
    wrong = _NOT_BASE64.search(text)
    if wrong is not None:
        at = wrong.start() + 1
        return f'its character {at:,} is "{shown(wrong[0])}", outside the base64 alphabet (A-Z a-z 0-9 + / =)'
    if len(text) % 4:
        return (
            f"it has {len(text):,} characters, which is not a multiple of 4; it is cut off, or its padding is missing"
        )
    return 'it has "=" before its end'


def size(data: bytes) -> tuple[int, int]:
    """Width and height of a picture that a model made, from its header.

    Raises:
        ValueError: it is not a picture.
    """
    structure = scan(data, _FORMATS)
    return structure.width, structure.height


def upright_size(data: bytes) -> tuple[int, int]:
    """Width and height of a checked picture after it has been turned upright."""
    return scan(data, _FORMATS).upright_size


def check(data: bytes, limits: ImageLimits, *, field: str = "image") -> None:
    """Reject data that is not a picture, and pictures that take much memory or work to decode. Decodes nothing.

    Raises what `examine` raises.
    """
    examine(data, limits, field=field)


def examine(data: bytes, limits: ImageLimits, *, field: str) -> Structure:
    """The structure of a picture that may be decoded, read without decoding it.

    Raises:
        PydanticCustomError: it is not a picture in a supported format, it is damaged, or it has too many parts.
        TooLargeError: it has more pixels than allowed; `field` is the request's field.
    """
    try:
        structure = scan(data, _FORMATS)
        structure.require(max_pixels=limits.max_pixels, max_side=limits.max_side)
    except StructureError as error:
        if error.code != TOO_LARGE:
            raise PydanticCustomError(error.code, "{reason}", {"reason": error.reason}) from None
        problem = FieldProblem(pointer((field,)), TOO_LARGE, f"`{shown(field)}` {error.reason}")
        raise TooLargeError(problem.detail, code=TOO_LARGE, problems=[problem]) from None
    return structure


def _checked_text(value: str, info: ValidationInfo) -> str:
    """Runs inside pydantic's validation of a `Base64Image`, with the limits as its context."""
    if not isinstance(info.context, ImageLimits):  # a response, or a user's own model
        return value
    try:
        return _cleaned(value, info.context, info.field_name or "")
    except PydanticCustomError as error:
        if info.mode != "json" or len(value) <= UNCHECKED_BYTES:
            raise
        failure = LongPictureError(error, info.field_name or "")
    try:
        raise failure  # outside `except`: as its context, the first error's frames would keep the picture
    finally:
        del failure  # the cycle would keep the picture until garbage is collected


def _cleaned(value: str, limits: ImageLimits, field: str) -> str:
    if not value:
        raise PydanticCustomError("not_an_image", "is empty. Send the bytes of a PNG, JPEG or WebP file.")
    try:
        text, data = _clean(value)
    except ValueError as error:
        raise PydanticCustomError("invalid_base64", "is not base64: {reason}.", {"reason": str(error)}) from None
    check(data, limits, field=field)
    return text


Base64Image = Annotated[
    str,
    _Marker(),
    AfterValidator(_checked_text),
    Field(
        json_schema_extra={"contentEncoding": "base64", "contentMediaType": "image/*"},
        examples=[SCRIBBLE],
    ),
]
"""A picture in a request or a response: base64 text in JSON, a file in a form. The tensor holds base64 text too."""


def is_image(metadata: list[object]) -> bool:
    """Whether a pydantic field (its `metadata`) is a `Base64Image`."""
    return any(isinstance(item, _Marker) for item in metadata)


def holds_picture(field: FieldInfo) -> bool:
    """Whether a pydantic field is a `Base64Image`, or an optional one."""
    return is_image(field.metadata) or _has_picture(field.annotation)


def _has_picture(annotation: Any) -> bool:
    arguments = get_args(annotation)
    return is_image(list(arguments)) or any(map(_has_picture, arguments))


def is_list_of_pictures(field: FieldInfo) -> bool:
    """Whether a pydantic field is a list of `Base64Image`."""
    return get_origin(field.annotation) is list and holds_picture(field)


def members(field: FieldInfo) -> tuple[str, ...]:
    """The members in which objects may hold a picture, for a pydantic field that takes such objects."""
    return tuple(_members((*field.metadata, field.annotation)))


def _members(annotations: Iterable[Any]) -> Iterator[str]:
    for each in annotations:
        yield from each.names if isinstance(each, PictureMembers) else _members(get_args(each))


def fields(model: type[BaseModel]) -> list[str]:
    """The names of a pydantic model's fields that hold pictures."""
    return [name for name, field in model.model_fields.items() if is_image(field.metadata)]
