# SPDX-License-Identifier: Apache-2.0
"""Translates a request to OpenAI's Images API to the endpoint's fields, and plans its pictures and response."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from fastapi_triton.core.errors import InvalidRequestError, invalid_field
from fastapi_triton.endpoints import images
from fastapi_triton.pictures import loras, unserved_fields
from fastapi_triton.pictures.openai import edits, model_names
from fastapi_triton.pictures.openai.schemas import AUTO, B64_JSON, UNSERVED, URL, ImagesRequest
from fastapi_triton.pictures.text_to_image import Capabilities, TextToImage
from fastapi_triton.pictures.unserved_fields import Unserved

_NO_STREAM = Unserved("it has no effect without stream", (0,))
_NO_URLS_IN_STREAM = Unserved("a stream has b64_json", (B64_JSON,))
_LOSSLESS = Unserved("PNG is lossless", (100,))
# The presets for values of `quality`, if the checkpoint has them.
_PRESETS = {"low": "draft", "medium": "fast", **dict.fromkeys(("high", "hd", "xhigh", "max"), "quality")}


@dataclass(slots=True)
class EndpointRequest:
    """A request in the endpoint's fields, which the endpoint has not checked yet. Its pictures may be URLs."""

    asked: Mapping[str, Any]  # in OpenAI's fields
    fields: dict[str, Any]
    capabilities: Capabilities
    notes: list[str]

    @property
    def count(self) -> int:
        count: int = self.asked.get("n", 1)
        return count

    @property
    def stream(self) -> bool:
        return bool(self.asked.get("stream"))

    def wants_urls(self, *, makes_urls: bool) -> bool:
        """Whether the response has URLs. `makes_urls`: whether this server stores pictures."""
        return makes_urls if self.has_urls_by_default else not self.stream and self.asked.get("response_format") == URL

    @property
    def has_urls_by_default(self) -> bool:
        """As OpenAI's models `dall-e…` have, unless the client asks for something else."""
        is_dall_e = self.asked.get("model", "").startswith(model_names.DALL_E)
        return is_dall_e and not self.stream and "response_format" not in self.asked

    def fill_in(self, pictures: Mapping[str, str], endpoint: type[BaseModel]) -> None:
        """Replace the URLs of pictures."""
        for name, declared in endpoint.model_fields.items():
            if name in self.fields and images.holds_picture(declared):
                self.fields[name] = pictures.get(self.fields[name], self.fields[name])


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


async def translated(request: BaseModel, model: TextToImage) -> EndpointRequest:
    """Translate a validated body.

    Raises:
        InvalidRequestError: a value, or a combination of values, is not supported.
        FastAPITritonError: the model is not available, so its sizes are unknown.
    """
    asked = request.model_dump(exclude_none=True)
    _check_count(asked, model)
    notes = model_names.replaced_notes(asked.get("model"), model)
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
    if asked.get("size", AUTO) != AUTO:
        width, _, height = asked["size"].partition("x")
        fields |= capabilities.size_fields((int(width), int(height)), notes.append)
    return EndpointRequest(asked, fields, capabilities, notes)


def _check_count(asked: Mapping[str, Any], model: TextToImage) -> None:
    count = asked.get("n", 1)
    if asked.get("stream") and count > 1:
        raise _invalid("n", f"`n` is {count}; with `stream` it must be 1. Send a request for each picture.")
    if count > model.max_pictures:
        raise _invalid("n", f"`n` is {count}; this server makes at most {model.max_pictures} pictures per request.")


def plan(request: EndpointRequest, model: TextToImage, *, makes_urls: bool) -> ImagesPlan:
    """The plan for a request without URLs of pictures. `makes_urls`: whether this server stores pictures.

    Raises:
        InvalidRequestError: a field is not valid for the endpoint.
    """
    asked, stream, notes = request.asked, request.stream, [*request.notes]
    output_format = request.fields["output_format"]
    implied = () if "output_format" in asked else ("output_format",)
    fields = model.check(request.fields, notes.append, implied=implied)
    notes += _unserved_notes(asked, stream=stream, output_format=output_format, preset=fields.get("preset"))
    partial_images = asked.get("partial_images", 0) if stream else 0
    if request.has_urls_by_default and not makes_urls:
        notes.append("This server stores no pictures, so the response has b64_json instead of url.")
    return ImagesPlan(
        batch=model.batch(fields, request.count),
        capabilities=request.capabilities,
        stream=stream,
        partial_images=partial_images,
        output_format=output_format,
        quality=asked.get("quality", AUTO),
        preview_every=_preview_every(partial_images, fields, request.capabilities),
        urls=request.wants_urls(makes_urls=makes_urls),
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
