# SPDX-License-Identifier: Apache-2.0
"""The request fields of A1111's `img2img` beside those of `txt2img`: the picture to change, and the mask."""

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from fastapi_triton.core.errors import invalid_field
from fastapi_triton.core.wrong_values import described
from fastapi_triton.endpoints import images
from fastapi_triton.endpoints.images import Base64Image
from fastapi_triton.pictures import unserved_fields
from fastapi_triton.pictures.a1111 import unserved
from fastapi_triton.pictures.a1111.controlnet import Number, Whole, has_shape
from fastapi_triton.pictures.a1111.schemas import PicturesRequest
from fastapi_triton.pictures.text_to_image import Size

# As in A1111, if the field is omitted.
_DENOISING_STRENGTH = 0.75
_MASK_BLUR = 4.0
# What happens anyway.
_RESIZE_AND_FILL, _ORIGINAL_CONTENT = 2, 1


def _only_one(value: Any) -> Any:
    """The picture of a list of one."""
    if isinstance(value, list):
        if len(value) != 1:
            raise PydanticCustomError(
                "unsupported_parameter", "has {count} pictures; send exactly one.", {"count": len(value)}
            )
        return value[0]
    return value


def _number(value: Any) -> Any:
    """As in A1111, true and false are 1 and 0 here."""
    return int(value) if isinstance(value, bool) else value


class Img2ImgRequest(PicturesRequest):
    """The supported fields of `img2img`. `unserved.IMG2IMG` has the others of A1111."""

    init_images: Annotated[Base64Image, BeforeValidator(_only_one)] = Field(
        description="A list of one: the picture to change", examples=[[images.SCRIBBLE]]
    )
    denoising_strength: Number = Field(_DENOISING_STRENGTH, ge=0, le=1)
    mask: Base64Image | None = Field(None, description="The region to paint anew: white")
    inpainting_mask_invert: Annotated[int | None, BeforeValidator(_number)] = Field(
        None, ge=0, le=1, description="1: the black part is painted anew"
    )
    mask_blur: Number | None = Field(None, ge=0, le=64, description="By default 4")
    inpainting_fill: Whole | None = Field(None, ge=0, le=3, description="1, the original content, is always used")
    inpaint_full_res: bool | None = Field(None, description="False, the whole picture, is always used")
    resize_mode: Whole | None = Field(None, ge=0, le=3, description="2, resize and fill, is always used")

    @property
    def default_scribble(self) -> str | None:
        return self.init_images

    def unserved_notes(self) -> list[str]:
        if self.mask is not None:
            return unserved_fields.notes(self.others, unserved.IMG2IMG, type(self).model_fields)
        of_mask = {name: getattr(self, name) for name in unserved.INPAINTING if name in type(self).model_fields}
        known = {**unserved.IMG2IMG, **unserved.INPAINTING}
        return unserved_fields.notes(self.others | of_mask, known, type(self).model_fields)

    def own_fields(self, endpoint: frozenset[str], size: Size | None, note: Callable[[str], None]) -> dict[str, Any]:
        for name in ("init_image", "strength") if self.mask is None else ("init_image", "strength", "mask"):
            if name not in endpoint:
                field = "mask" if name == "mask" else "init_images"
                raise invalid_field(field, "unsupported_parameter", f"This server's endpoint has no field `{name}`.")
        self._note_resizing(size, note)
        fields = {"init_image": self.init_images, "strength": self.denoising_strength}
        if self.mask is None:
            return fields
        if self.inpainting_fill not in (None, _ORIGINAL_CONTENT):
            note(f"`inpainting_fill` is {self.inpainting_fill}; the original content is used, as with 1.")
        if self.inpaint_full_res:
            note("`inpaint_full_res` is true; the whole picture is used, as with false.")
        return fields | {
            "mask": self.mask,
            "mask_selects": "black" if self.inpainting_mask_invert else "white",
            "mask_blur": _MASK_BLUR if self.mask_blur is None else self.mask_blur,
        }

    def _note_resizing(self, size: Size | None, note: Callable[[str], None]) -> None:
        if self.resize_mode in (None, _RESIZE_AND_FILL) or size is None or has_shape(self.init_images, size):
            return
        width, height = images.upright_size(images.decode(self.init_images))
        note(
            f"`resize_mode` is {described(self.resize_mode)}; the {width}x{height} picture was resized and filled, "
            f"as with 2, to {size[0]}x{size[1]}."
        )
