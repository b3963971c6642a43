# SPDX-License-Identifier: Apache-2.0
"""The request fields of OpenAI's Images API, and their translation to the endpoint's fields."""

import re
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, create_model
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from fastapi_triton.core.errors import FieldProblem, InvalidRequestError, NotFoundError, invalid_field, shown
from fastapi_triton.endpoints import content_negotiation, images
from fastapi_triton.endpoints.images import Base64Image
from fastapi_triton.pictures import loras, unserved_fields
from fastapi_triton.pictures.openai import edits
from fastapi_triton.pictures.openai.image_urls import PictureReference
from fastapi_triton.pictures.picture_models import PictureModels, no_such
from fastapi_triton.pictures.text_to_image import MAX_PICTURES, Capabilities, TextToImage
from fastapi_triton.pictures.unserved_fields import Unserved

# The values of `response_format`.
URL, B64_JSON = "url", "b64_json"
# Programs written for OpenAI name one of its models; they get this server's.
_DALL_E = "dall-e"
_OPENAI_MODELS = ("gpt-image", "chatgpt-image", _DALL_E)
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
_NO_STREAM = Unserved("it has no effect without stream", (0,))
_NO_URLS_IN_STREAM = Unserved("a stream has b64_json", (B64_JSON,))
_LOSSLESS = Unserved("PNG is lossless", (100,))
# The presets for values of `quality`, if the checkpoint has them.
_PRESETS = {"low": "draft", "medium": "fast", **dict.fromkeys(("high", "hd", "xhigh", "max"), "quality")}
# Endpoint fields that are set from OpenAI's own fields.
_NOT_EXTENSIONS = {"image", "width", "height", "output_format", "output_quality"}
_FORMATS = tuple(content_negotiation.FORMAT_NAMES.values())
# Each side from 1 to 99,999.
_SIZE = re.compile(r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}")
_AUTO = "auto"
_MAX_WORD = 32  # characters


def _omitted_if_empty(value: Any) -> Any:
    return None if value == "" else value


def _word(value: Any) -> Any:
    """A word of OpenAI's in lower case, so that clients may write it as they like."""
    return _omitted_if_empty(value.strip().lower()) if isinstance(value, str) else value


def _check_size(value: str | None) -> str | None:
    if value is not None and value != _AUTO and _SIZE.fullmatch(value) is None:
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


def request_models(model: TextToImage) -> tuple[type[BaseModel], type[BaseModel]]:
    """The bodies of `/v1/images/generations` and `/v1/images/edits`.

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


@dataclass(slots=True)
class ImagesPlan:
    """The pictures to make, and how to respond."""

    batch: list[dict[str, Any]]
    capabilities: Capabilities
    stream: bool
    partial_images: int
    output_format: str  # of the partial images too
    quality: str
    preview_every: int = 0
    urls: bool = False  # instead of base64 text
    # How the pictures differ from the request.
    notes: list[str] = field(default_factory=list)


async def plan(request: BaseModel, model: TextToImage, *, makes_urls: bool) -> ImagesPlan:
    """Translate a validated body. `makes_urls`: whether this server stores pictures.

    Raises:
        InvalidRequestError: a value, or a combination of values, is not supported.
        FastAPITritonError: the model is not available, so its sizes are unknown.
    """
    asked = request.model_dump(exclude_none=True)
    count, stream = asked.get("n", 1), asked.get("stream", False)
    notes = _model_notes(asked.get("model"), model)
    if stream and count > 1:
        raise _invalid(
            "n",
            f"`n` is {count}; with `stream` it must be 1. Send a request for each picture.",
        )
    if count > model.max_pictures:
        raise _invalid("n", f"`n` is {count}; this server makes at most {model.max_pictures} pictures per request.")
    capabilities = await model.capabilities()
    endpoint = model.endpoint.request_model.model_fields
    fields = {
        name: value for name, value in asked.items() if name in endpoint or name not in ImagesRequest.model_fields
    }
    if "image" in fields:
        fields = edits.translated(fields, notes.append)
    if of_model := loras.of_model_name(asked.get("model", "")):
        fields[loras.FIELD] = [*fields.get(loras.FIELD, []), *of_model]
    if "preset" in endpoint:
        fields |= _preset_for_quality(asked, capabilities)
    fields["output_format"] = asked.get("output_format") or "png"
    if "output_compression" in asked:
        fields["output_quality"] = max(1, asked["output_compression"])
    if asked.get("size", _AUTO) != _AUTO:
        width, _, height = asked["size"].partition("x")
        fields |= capabilities.size_fields((int(width), int(height)), notes.append)
    output_format = fields["output_format"]
    fields = model.check(fields, notes.append, implied=() if "output_format" in asked else ("output_format",))
    notes += _unserved_notes(asked, stream=stream, output_format=output_format, preset=fields.get("preset"))
    partial_images = asked.get("partial_images", 0) if stream else 0
    return ImagesPlan(
        batch=model.batch(fields, count),
        capabilities=capabilities,
        stream=stream,
        partial_images=partial_images,
        output_format=output_format,
        quality=asked.get("quality", _AUTO),
        preview_every=_preview_every(partial_images, fields, capabilities),
        urls=not stream and _wants_urls(asked, notes, makes_urls=makes_urls),
        notes=notes,
    )


def _preset_for_quality(asked: Mapping[str, Any], capabilities: Capabilities) -> dict[str, str]:
    """The field `preset`, if the checkpoint has one for OpenAI's `quality` and the client names no other."""
    preset = _PRESETS.get(asked.get("quality", ""), "")
    return {"preset": preset} if preset in capabilities.presets and "preset" not in asked else {}


def _unserved_notes(asked: Mapping[str, Any], *, stream: bool, output_format: str, preset: str | None) -> list[str]:
    unserved = dict(UNSERVED)
    if preset is not None and preset == _PRESETS.get(asked.get("quality", "")):
        del unserved["quality"]
    if stream:
        unserved["response_format"] = _NO_URLS_IN_STREAM
    else:
        unserved["partial_images"] = _NO_STREAM
    if output_format == "png":
        unserved["output_compression"] = _LOSSLESS
    return unserved_fields.notes({name: asked.get(name) for name in unserved}, unserved, ())


def _wants_urls(asked: Mapping[str, Any], notes: list[str], *, makes_urls: bool) -> bool:
    """Whether the response has URLs: for OpenAI's models `dall-e…`, that is the default."""
    if "response_format" in asked or not asked.get("model", "").startswith(_DALL_E):
        return bool(asked.get("response_format") == URL)
    if not makes_urls:
        notes.append("This server stores no pictures, so the response has b64_json instead of url.")
    return makes_urls


async def choose_model(name: str | None, models: PictureModels) -> TextToImage:
    """The model with this name; the default for none, and for names of OpenAI's own models.

    Raises:
        NotFoundError: there is no such model.
        FastAPITritonError: it is not loaded yet.
    """
    if name is None or (models.named(name) is None and name.startswith(_OPENAI_MODELS)):
        return models.default
    model = await models.find(loras.base_name(name))
    if model is None:
        raise unknown_model(name, models)
    return model


async def listed_as(name: str, models: PictureModels) -> str | None:
    """The name in `/v1/models` of the model that requests with this name use; None if it is this name.

    Raises what `choose_model` raises, also for a LoRA that the model does not have.
    """
    model = await choose_model(name, models)
    for lora in loras.of_model_name(name):
        if lora["name"] not in loras.usable(await model.capabilities()):
            raise unknown_model(name, models)
    return None if model.name == name else model.name


def _model_notes(asked: str | None, model: TextToImage) -> list[str]:
    if asked is None or asked == model.name or not asked.startswith(_OPENAI_MODELS):
        return []
    return [f"{shown(asked)} is not available; {model.name} is used instead."]


def unknown_model(asked: str, models: PictureModels) -> NotFoundError:
    detail = no_such("model", asked, models.names)
    return NotFoundError(detail, code="model_not_found", problems=[FieldProblem("#/model", "model_not_found", detail)])


def _preview_every(partial_images: int, fields: Mapping[str, Any], capabilities: Capabilities) -> int:
    """The number of steps between previews, so that they are spread evenly over the steps."""
    if not partial_images:
        return 0
    defaults = {**capabilities.defaults, **capabilities.presets.get(fields.get("preset") or "", {})}
    default: int = defaults.get("num_inference_steps", 2 * (partial_images + 1))
    strength = fields.get("strength")  # of a request that starts from a picture: the part of the steps that is made
    num_steps = max(1, int((fields.get("num_inference_steps") or default) * (1.0 if strength is None else strength)))
    return max(1, min((num_steps - 1) // partial_images, -(-num_steps // (partial_images + 1))))


def _invalid(name: str, detail: str) -> InvalidRequestError:
    return invalid_field(name, "unsupported_parameter", detail)
