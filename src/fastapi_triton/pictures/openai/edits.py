# SPDX-License-Identifier: Apache-2.0
"""Which picture of an edit is what: without `mask` and `scribble`, `image` is the scribble; else the picture to change.

OpenAI's masks are transparent where the picture is painted anew.
"""

from collections.abc import Collection, Mapping
from typing import Any

from pydantic import AliasChoices, Field

from fastapi_triton.endpoints.images import Base64Image

# The endpoint's fields that an edit of a picture needs.
NEEDED = ("init_image", "mask", "mask_selects")
TRANSPARENT = "transparent"

# The fields of a body; OpenAI's client sends image[] if it is given a list.
IMAGE: dict[str, Any] = {"image": (Base64Image, Field(validation_alias=AliasChoices("image", "image[]")))}
SCRIBBLE: dict[str, Any] = {
    "scribble": (Base64Image | None, Field(None, description="With it, `image` is the picture to change"))
}


def fields(endpoint: Collection[str]) -> dict[str, Any]:
    """The fields of pictures in an edit, for an endpoint with these fields."""
    return IMAGE | (SCRIBBLE if set(NEEDED) <= set(endpoint) else {})


def translated(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The endpoint's fields for an edit. `init_image`, if sent, is the picture to change, and `image` the scribble."""
    edit = dict(asked)
    if edit.get("mask"):
        edit.setdefault("mask_selects", TRANSPARENT)
    if "init_image" in edit or not (edit.get("mask") or edit.get("scribble")):
        return edit
    edit["init_image"] = edit.pop("image")
    if scribble := edit.pop("scribble", None):
        edit["image"] = scribble
    return edit
