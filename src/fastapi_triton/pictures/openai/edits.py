# SPDX-License-Identifier: Apache-2.0
"""Which picture of an edit is what: without `mask` and `scribble`, `image` is the scribble; else the picture to change.

Of two pictures in `image`, the first is changed, and the second is the scribble. OpenAI's masks are transparent where
the picture is painted anew.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any

from pydantic import (
    AliasChoices,
    BeforeValidator,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

from fastapi_triton.core.errors import invalid_field
from fastapi_triton.endpoints.images import SCRIBBLE
from fastapi_triton.pictures.openai.image_urls import PictureReference

# The endpoint's fields that an edit of a picture needs.
NEEDED = ("init_image", "mask", "mask_selects")
TRANSPARENT = "transparent"
# OpenAI's client sends image[] if it is given a list; the others are for JSON.
_NAMES = AliasChoices("image", "image[]", "images", "image_url")
_TWO = "Of the two pictures in `image`, the first is changed, and the second is the scribble that it follows."


def _as_list(value: Any) -> Any:
    """The pictures of a list, of a form with `image[0]`, or the only one, as a list."""
    if isinstance(value, dict) and "0" in value:
        return list(value.values())
    return value if isinstance(value, list) else [value]


def _counted(most: int) -> BeforeValidator:
    """A validator that rejects an empty list, and one of more than `most` pictures."""
    meant = "the picture to change, and its scribble" if most > 1 else "the scribble"

    def check(pictures: list[Any]) -> list[Any]:
        if 1 <= len(pictures) <= most:
            return pictures
        reason = f"has {len(pictures)} pictures; this server takes at most {most}: {meant}."
        raise PydanticCustomError("unsupported_parameter", "{reason}", {"reason": reason})

    return BeforeValidator(check)


def _without_index(pictures: list[Any], check: ValidatorFunctionWrapHandler) -> Any:
    """Validate a list. The error of an only picture is one of the field, because its client may have sent no list."""
    try:
        return check(pictures)
    except ValidationError as error:
        if len(pictures) > 1:
            raise
        (found,) = error.errors(include_url=False, include_input=False)
    raise PydanticCustomError(found["type"], "{reason}", {"reason": found["msg"]})


def _pictures(most: int) -> Any:
    """The type of a field with at most `most` pictures. Its validators run from the last to the first."""
    checks = (Field(max_length=most), WrapValidator(_without_index), _counted(most), BeforeValidator(_as_list))
    return Annotated[list[PictureReference], *checks]


def fields(endpoint: Collection[str]) -> dict[str, Any]:
    """The fields of pictures in an edit, for an endpoint with these fields."""
    edits_pictures = set(NEEDED) <= set(endpoint)
    most = 2 if edits_pictures else 1
    image = Field(validation_alias=_NAMES, description="A picture, or a list of them", examples=[SCRIBBLE])
    scribble = Field(None, description="With it, `image` is the picture to change")
    found: dict[str, Any] = {"image": (_pictures(most), image)}
    return found | ({"scribble": (PictureReference | None, scribble)} if edits_pictures else {})


def translated(asked: Mapping[str, Any], note: Callable[[str], None]) -> dict[str, Any]:
    """The endpoint's fields for an edit. `init_image`, if sent, is the picture to change, and `image` the scribble.

    Raises:
        InvalidRequestError: there is one picture too many.
    """
    edit = dict(asked)
    image, *more = edit.pop("image")
    if more and (edit.get("scribble") or "init_image" in edit):
        other = "scribble" if edit.get("scribble") else "init_image"
        detail = f"`image` has 2 pictures; with `{other}` it must have one."
        raise invalid_field("image", "unsupported_parameter", detail)
    if more:
        edit["scribble"] = more[0]
        note(_TWO)
    if edit.get("mask"):
        edit.setdefault("mask_selects", TRANSPARENT)
    if "init_image" in edit or not (edit.get("mask") or edit.get("scribble")):
        return edit | {"image": image}
    edit["init_image"] = image
    if scribble := edit.pop("scribble", None):
        edit["image"] = scribble
    return edit
