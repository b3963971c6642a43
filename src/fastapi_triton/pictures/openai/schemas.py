# SPDX-License-Identifier: Apache-2.0
"""What OpenAI's Images API may be asked → the fields of the model behind it, and what was done to make them fit."""

import re
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator, AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, create_model
from pydantic_core import PydanticCustomError

from fastapi_triton.core.errors import FieldProblem, InvalidRequestError, NotFoundError, invalid_field, shown
from fastapi_triton.endpoints import content_negotiation
from fastapi_triton.endpoints.images import Base64Image
from fastapi_triton.pictures.text_to_image import MAX_PICTURES, Capabilities, TextToImage

# What a program that was written for OpenAI names; it gets the model that is here.
_OPENAI_MODELS = ("gpt-image", "chatgpt-image", "dall-e")
# Said by fields of OpenAI's own, or decided here.
_NOT_EXTENSIONS = {"image", "width", "height", "output_format", "output_quality"}
_FORMATS = tuple(content_negotiation.FORMAT_NAMES.values())
# Each side from 1 to 99,999.
_SIZE = re.compile(r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}")


def _refuse(reason: str, *, unless: tuple[Any, ...] = (None,)) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if value not in unless:
            raise PydanticCustomError("unsupported_parameter", "{reason}", {"reason": reason})
        return value

    return check


def _check_size(value: str | None) -> str | None:
    if value is not None and value != "auto" and _SIZE.fullmatch(value) is None:
        raise PydanticCustomError(
            "invalid_value", 'It must be "auto" or WIDTHxHEIGHT, such as "1024x1024", up to 99999x99999.'
        )
    return value


class ImagesRequest(BaseModel):
    """The fields of OpenAI's API. Those that choose between models of OpenAI's own are taken and mean nothing here."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    model: str | None = Field(None, description="its name here; for OpenAI's own image models it stands in")
    n: int | None = Field(None, ge=1, le=MAX_PICTURES, description="made with the seeds seed, seed + 1 …")
    size: Annotated[str | None, AfterValidator(_check_size)] = Field(
        None, description="snapped to the nearest that the model does, which the answer tells"
    )
    response_format: Annotated[
        str | None,
        BeforeValidator(
            _refuse(
                "Pictures are not kept, so there is no URL to give. Ask for b64_json, or leave it out.",
                unless=(None, "b64_json"),
            )
        ),
    ] = None
    output_format: Annotated[
        str | None,
        BeforeValidator(_refuse(f"It must be one of {', '.join(_FORMATS)}.", unless=(None, *_FORMATS))),
    ] = Field(None, description="png where it is left out")
    output_compression: int | None = Field(None, ge=0, le=100, description="the quality of WebP and JPEG")
    stream: bool | None = None
    partial_images: int | None = Field(None, ge=0, le=3, description="how many are streamed before the picture")
    background: Annotated[
        str | None,
        BeforeValidator(
            _refuse("Pictures are opaque; leave it out, or say auto or opaque.", unless=(None, "auto", "opaque"))
        ),
    ] = None
    quality: str | None = Field(None, max_length=32, description="means nothing here: ask for num_inference_steps")
    moderation: str | None = Field(None, description="means nothing here")
    style: str | None = Field(None, description="means nothing here")
    input_fidelity: str | None = Field(None, description="means nothing here: ask for conditioning_scale")
    complexity: str | None = Field(None, description="means nothing here")
    user: str | None = Field(None, description="means nothing here")
    safety_identifier: str | None = Field(None, description="means nothing here")
    mask: Annotated[
        Base64Image | None,
        BeforeValidator(
            _refuse("The sketch steers the whole picture; there is no painting inside a mask. Leave it out.")
        ),
    ] = None


def request_models(model: TextToImage) -> tuple[type[BaseModel], type[BaseModel]]:
    """The bodies of `/v1/images/generations` and `/v1/images/edits`.

    To OpenAI's fields come those that the endpoint declares beyond them: seed, steps, scales …
    """
    own = {
        name: (declared.annotation, copy(declared))
        for name, declared in model.endpoint.request_model.model_fields.items()
        if name not in _NOT_EXTENSIONS
    }
    # OpenAI's own client calls it image[] where it is given a list.
    sketch = {"image": (Base64Image, Field(validation_alias=AliasChoices("image", "image[]")))}
    fields: Any = own
    with_sketch: Any = {**sketch, **own}
    return (
        create_model("ImageGenerationRequest", __base__=ImagesRequest, **fields),
        create_model("ImageEditRequest", __base__=ImagesRequest, **with_sketch),
    )


@dataclass(slots=True)
class ImagesPlan:
    """What is to be made."""

    batch: list[dict[str, Any]]
    capabilities: Capabilities
    stream: bool
    partial_images: int
    output_format: str  # of the partial images too
    quality: str
    preview_every: int = 0
    # How the picture differs from the request.
    notes: list[str] = field(default_factory=list)


async def plan(request: BaseModel, model: TextToImage) -> ImagesPlan:
    """A validated body as a plan.

    Raises:
        NotFoundError: it names a model that is not here.
        InvalidRequestError: what it asks for does not go together.
        FastAPITritonError: the model cannot be asked for its sizes.
    """
    asked = request.model_dump(exclude_none=True)
    count, stream = asked.get("n", 1), asked.get("stream", False)
    notes = _model_notes(asked.get("model"), model)
    if stream and count > 1:
        raise _invalid(
            "n",
            "A stream tells of one picture, since its events do not say which one they mean. Stream each alone.",
        )
    if count > model.max_pictures:
        raise _invalid("n", f"This server makes at most {model.max_pictures} pictures at once.")
    capabilities = await model.capabilities()
    fields = {name: value for name, value in asked.items() if name not in ImagesRequest.model_fields}
    fields["output_format"] = asked.get("output_format") or "png"
    if "output_compression" in asked:
        fields["output_quality"] = max(1, asked["output_compression"])
    if asked.get("size", "auto") != "auto":
        width, _, height = asked["size"].partition("x")
        fields |= capabilities.snapped((int(width), int(height)), notes.append)
    output_format = fields["output_format"]
    fields = model.check(fields)
    if "output_format" in asked and "output_format" not in fields:
        notes.append("The endpoint cannot choose a format: the picture has the model's own.")
    partial_images = asked.get("partial_images", 0) if stream else 0
    return ImagesPlan(
        batch=model.batch(fields, count),
        capabilities=capabilities,
        stream=stream,
        partial_images=partial_images,
        output_format=output_format,
        quality=asked.get("quality", "auto"),
        preview_every=_preview_every(partial_images, fields, capabilities.defaults),
        notes=notes,
    )


def _model_notes(asked: str | None, model: TextToImage) -> list[str]:
    if asked in (None, model.name):
        return []
    if asked is not None and asked.startswith(_OPENAI_MODELS):
        return [f"{shown(asked)} is not here; {model.name} stands in for it."]
    raise unknown_model(asked or "", model)


def unknown_model(asked: str, model: TextToImage) -> NotFoundError:
    detail = f"There is no model '{shown(asked)}'; there is {model.name}."
    return NotFoundError(detail, code="model_not_found", problems=[FieldProblem("#/model", "model_not_found", detail)])


def _preview_every(partial_images: int, fields: Mapping[str, Any], defaults: Mapping[str, Any]) -> int:
    """The number of steps between previews, so that they come evenly before the picture."""
    if not partial_images:
        return 0
    default: int = defaults.get("num_inference_steps", 2 * (partial_images + 1))
    num_steps: int = fields.get("num_inference_steps") or default
    return max(1, min((num_steps - 1) // partial_images, -(-num_steps // (partial_images + 1))))


def _invalid(name: str, detail: str) -> InvalidRequestError:
    return invalid_field(name, "unsupported_parameter", detail)
