# SPDX-License-Identifier: Apache-2.0
"""The request fields of OpenAI's Images API."""

import re
from copy import copy
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, create_model
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from fastapi_triton.endpoints import content_negotiation, images
from fastapi_triton.endpoints.images import Base64Image
from fastapi_triton.pictures.openai import edits
from fastapi_triton.pictures.openai.image_urls import PictureReference
from fastapi_triton.pictures.text_to_image import MAX_PICTURES, TextToImage
from fastapi_triton.pictures.unserved_fields import Unserved

# The values of `response_format`.
URL, B64_JSON = "url", "b64_json"
# Fields of OpenAI's own models.
UNSERVED = {
    "background": Unserved("pictures have no transparency", ("auto", "opaque")),
    "complexity": Unserved(),
    "input_fidelity": Unserved("use conditioning_scale"),
    "moderation": Unserved("this server does not moderate"),
    "quality": Unserved("send preset or num_inference_steps", ("auto", "standard")),
    "safety_identifier": Unserved("this server does not store it"),
    "style": Unserved("write the style into the prompt"),
    "user": Unserved("this server does not store it"),
}
# Endpoint fields that are set from OpenAI's own fields.
_NOT_EXTENSIONS = {"image", "width", "height", "output_format", "output_quality"}
_FORMATS = tuple(content_negotiation.FORMAT_NAMES.values())
# Each side from 1 to 99,999.
_SIZE = re.compile(r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}")
AUTO = "auto"
_MAX_WORD = 32  # characters


def _omitted_if_empty(value: Any) -> Any:
    return None if value == "" else value


def _word(value: Any) -> Any:
    """A word of OpenAI's in lower case, so that clients may write it as they like."""
    return _omitted_if_empty(value.strip().lower()) if isinstance(value, str) else value


def _check_size(value: str | None) -> str | None:
    if value is not None and value != AUTO and _SIZE.fullmatch(value) is None:
        raise PydanticCustomError(
            "invalid_value", 'must be "auto" or WIDTHxHEIGHT, such as "1024x1024", up to 99999x99999.'
        )
    return value


def _one_of(*known: str, **aliases: str) -> AfterValidator:
    """A validator that accepts these words, and others as aliases of them."""

    def check(value: str | None) -> str | None:
        word = aliases.get(value or "", value)
        if word is not None and word not in known:
            reason = f"must be one of {', '.join(known)}."
            raise PydanticCustomError("unsupported_parameter", "{reason}", {"reason": reason})
        return word

    return AfterValidator(check)


def _reject_mask(value: Any) -> None:
    if value is not None:
        raise PydanticCustomError(
            "unsupported_parameter", "is not supported by this server's endpoint. Omit this field."
        )


Word = Annotated[str | None, BeforeValidator(_word)]
Text = Annotated[str | None, BeforeValidator(_omitted_if_empty)]


class ImagesRequest(BaseModel):
    """The fields of OpenAI's API. Those that only make sense for OpenAI's own models are noted (`UNSERVED`)."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    model: Text = Field(
        None, description="The model's name in `/v1/models`. Names of OpenAI's image models are accepted too"
    )
    n: int | None = Field(
        None, ge=1, le=MAX_PICTURES, description="Number of pictures, with the seeds seed, seed + 1 …"
    )
    size: Annotated[Word, AfterValidator(_check_size)] = Field(
        None, description="WIDTHxHEIGHT or auto. The nearest size that the model supports is used; the response has it"
    )
    response_format: Annotated[Word, _one_of(URL, B64_JSON)] = Field(
        None, description="url: a URL of this server that expires. By default b64_json, for dall-e models url"
    )
    output_format: Annotated[Word, _one_of(*_FORMATS, jpg="jpeg")] = Field(None, description="By default png")
    output_compression: int | None = Field(None, ge=0, le=100, description="The quality of WebP and JPEG")
    stream: bool | None = None
    partial_images: int | None = Field(
        None, ge=0, le=3, description="Number of previews that are streamed before the picture"
    )
    background: Word = Field(None, max_length=_MAX_WORD, description="Noted: pictures have no transparency")
    quality: Word = Field(
        None,
        max_length=_MAX_WORD,
        description="low, medium and high: the presets draft, fast and quality, if the model has them; else noted",
    )
    moderation: Text = Field(None, description="Noted: this server does not moderate")
    style: Text = Field(None, description="Noted: write the style into the prompt")
    input_fidelity: Text = Field(None, description="Noted: use conditioning_scale")
    complexity: Text = Field(None, description="Noted")
    user: Text = Field(None, description="Noted")
    safety_identifier: Text = Field(None, description="Noted")
    mask: Annotated[Base64Image | None, BeforeValidator(_reject_mask)] = None


# The bodies of `/v1/images/generations` and `/v1/images/edits`.
RequestModels = tuple[type[BaseModel], type[BaseModel]]


def request_models(model: TextToImage) -> RequestModels:
    """The bodies for an endpoint's model.

    They have OpenAI's fields, and the endpoint's other fields: seed, steps, scales …
    """
    own = {
        name: _of_endpoint(declared)
        for name, declared in model.endpoint.request_model.model_fields.items()
        if name not in _NOT_EXTENSIONS
    }
    fields: Any = own
    with_pictures: Any = {**edits.fields(own), **own}
    return (
        create_model("ImageGenerationRequest", __base__=ImagesRequest, **fields),
        create_model("ImageEditRequest", __base__=ImagesRequest, **with_pictures),
    )


def _of_endpoint(declared: FieldInfo) -> tuple[Any, FieldInfo]:
    """A field of the endpoint. A picture may be a URL, too."""
    if images.holds_picture(declared) and not declared.is_required():
        return PictureReference | None, Field(declared.default, description=declared.description)
    return declared.annotation, copy(declared)
