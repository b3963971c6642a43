# SPDX-License-Identifier: Apache-2.0
"""The request fields of A1111's `txt2img` and `img2img`, and their translation to the endpoint's fields."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, ValidationInfo, field_validator

from fastapi_triton.core.errors import invalid_field
from fastapi_triton.core.wrong_values import described
from fastapi_triton.endpoints import images
from fastapi_triton.endpoints.request_body import raw_body, validation
from fastapi_triton.pictures import loras, unserved_fields
from fastapi_triton.pictures.a1111 import alwayson_scripts, checkpoints, errors, samplers, saved_values, unserved
from fastapi_triton.pictures.a1111.controlnet import (
    MODULES,
    ControlNetUnit,
    Number,
    Whole,
    enabled_unit,
    reject,
    unsupported,
)
from fastapi_triton.pictures.a1111.saved_values import is_off, plain
from fastapi_triton.pictures.text_to_image import MAX_PICTURES, Capabilities, Size, TextToImage

# In pixels, the same limit as under `/v1`.
_MAX_SIDE = 99_999
# Of a prompt with its LoRA tags. The endpoint has its own limit for the rest.
_MAX_PROMPT = 64 * 1024
# The most layers that A1111 can skip.
_MAX_CLIP_STOP = 12
_CLIP_STOP = "CLIP_stop_at_last_layers"
_PNG_INFO = "enable_pnginfo"
_CLIP_STOPS: TypeAdapter[int] = TypeAdapter(Annotated[Whole, Field(ge=1, le=_MAX_CLIP_STOP)])
# The layer, from the end, whose output SDXL uses.
_SDXL_CLIP_STOP = 2
# Endpoint fields that are set here, although the client did not send them.
_IMPLIED = frozenset(("output_format", "invert", "prompt_syntax", "receipt"))
R = TypeVar("R", bound=BaseModel)
_IMG2IMG = "`txt2img` starts from no picture. Send it to `img2img`"


class PicturesRequest(BaseModel):
    """The supported fields of both, and those that are rejected."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    prompt: str = Field("", max_length=_MAX_PROMPT, examples=["a red house in the snow"])
    negative_prompt: str | None = Field(None, max_length=_MAX_PROMPT)
    seed: Whole | None = Field(None, description="-1, or omitted: a random seed; `info` has it")
    steps: Whole | None = Field(None, description="Omitted: the model's default")
    cfg_scale: Number | None = Field(None, description="Omitted: the model's default")
    width: Whole | None = Field(None, ge=1, le=_MAX_SIDE, description="The nearest supported size is used")
    height: Whole | None = Field(None, ge=1, le=_MAX_SIDE)
    sampler_name: str | None = None
    sampler_index: str | None = Field(None, description="The older name of sampler_name")
    scheduler: str | None = None
    batch_size: Whole = Field(1, ge=1, le=MAX_PICTURES)
    n_iter: Whole = Field(1, ge=1, le=MAX_PICTURES)
    send_images: bool = True
    force_task_id: str | None = Field(None, max_length=200, description="A name for `progress` and `interrupt`")
    override_settings: dict[str, Any] | None = None
    alwayson_scripts: dict[str, Any] | None = Field(
        None,
        description="`controlnet` with one unit: the scribble",
        examples=[{"controlnet": {"args": [{"image": images.SCRIBBLE}]}}],
    )
    eta: Number | None = Field(None, description="With DDIM and TCD. Others ignore 1, the default of A1111's clients")
    clip_skip: Whole | None = Field(
        None, ge=1, le=_MAX_CLIP_STOP, description="As CLIP_stop_at_last_layers: SDXL skips the last layer at 1 and 2"
    )
    tiling: Annotated[Any, reject("tiled pictures are not supported. Omit this field.")] = None
    script_name: Annotated[Any, reject("scripts are not supported. Omit this field.")] = None
    subseed_strength: Annotated[Any, reject("variations of a seed are not supported. Omit this field.")] = None
    refiner_checkpoint: Annotated[Any, reject("a refiner is not supported. Omit this field.")] = None
    infotext: Annotated[Any, reject("parameters are not read from it. Send them as fields.")] = None

    controlnet_units: list[Any] | None = Field(None, description="The older place of the units")

    @field_validator("*", mode="before")
    @classmethod
    def _or_default(cls, value: Any, info: ValidationInfo) -> Any:
        return saved_values.or_default(cls, value, info)

    @property
    def others(self) -> dict[str, Any]:
        """The fields without a declaration."""
        return {name: plain(value) for name, value in (self.model_extra or {}).items()}

    @property
    def default_scribble(self) -> str | None:
        """The scribble of a ControlNet unit without a picture."""
        return None

    def unserved_notes(self) -> list[str]:
        """A note for each field that is not served."""
        raise NotImplementedError

    def own_fields(
        self,
        endpoint: frozenset[str],  # noqa: ARG002
        size: Size | None,  # noqa: ARG002
        note: Callable[[str], None],  # noqa: ARG002
    ) -> dict[str, Any]:
        """The endpoint's fields that only this kind of request sets.

        Args:
            endpoint: the names of the endpoint's fields.
            size: the picture's size, if the request has one.

        Raises:
            InvalidRequestError: the endpoint lacks one of them.
        """
        return {}


class Txt2ImgRequest(PicturesRequest):
    """The fields of `txt2img`. `unserved.TXT2IMG` has the others of A1111."""

    enable_hr: Annotated[
        Any, reject("a second pass is not supported. Set width and height to the size that you need.")
    ] = None
    init_images: Annotated[Any, reject(f"{_IMG2IMG}.")] = None
    mask: Annotated[Any, reject(f"{_IMG2IMG}.")] = None

    def unserved_notes(self) -> list[str]:
        return unserved_fields.notes(self.others, unserved.TXT2IMG, Txt2ImgRequest.model_fields)


@dataclass(frozen=True, slots=True)
class PicturesPlan:
    """The pictures to make. `notes` are the differences from the request."""

    batch: list[dict[str, Any]]
    notes: list[str]
    scheduler: str
    capabilities: Capabilities
    has_parameters: bool  # in the picture files


def plan(request: PicturesRequest, model: TextToImage, capabilities: Capabilities) -> PicturesPlan:
    """Translate a validated body.

    Raises:
        InvalidRequestError: a value is not supported.
    """
    notes: list[str] = []
    units = alwayson_scripts.units(request.alwayson_scripts or {}, request, notes.append)
    unit = enabled_unit(units or request.controlnet_units or [], model)
    if units and request.controlnet_units not in (None, [], units):
        notes.append("`controlnet_units` was ignored: alwayson_scripts has units, too.")
    chosen = samplers.choose(
        request.sampler_name or request.sampler_index, request.scheduler, capabilities, notes.append
    )
    used = chosen.scheduler or capabilities.defaults.get("scheduler", "")
    notes += request.unserved_notes()
    settings = read_settings(request.override_settings or {}, notes.append)
    size = _size(request, capabilities, notes.append)
    endpoint = frozenset(model.endpoint.request_model.model_fields)
    prompt, of_tags = loras.without_tags(request.prompt, notes.append)
    loras.note_unread_tags(request.negative_prompt or "", notes.append)
    fields: dict[str, Any] = {
        "prompt": prompt,
        loras.FIELD: of_tags or None,
        "negative_prompt": request.negative_prompt,
        "prompt_syntax": "a1111",
        "seed": request.seed,
        "num_inference_steps": request.steps,
        "guidance_scale": request.cfg_scale,
        "scheduler": chosen.scheduler,
        "timestep_spacing": chosen.timestep_spacing,
        "output_format": "png",
        "receipt": None if settings.has_texts else "none",
        "clip_skip": _layers_to_skip(_clip_stop(settings, request, notes.append), notes.append),
        "eta": samplers.eta(request.eta, used, notes.append),
        **size,
        **request.own_fields(endpoint, (size["width"], size["height"]) if size else None, notes.append),
    }
    if unit is not None:
        unit.note_differences((size["width"], size["height"]) if size else None, notes.append)
        fields |= {
            "image": _scribble(unit, request, notes.append),
            "conditioning_scale": unit.weight,
            "control_guidance_start": unit.guidance_start,
            "control_guidance_end": unit.guidance_end,
            "invert": MODULES[unit.module],
        }
    checked = model.check(fields, lambda text: notes.append(errors.renamed(text)), implied=_IMPLIED)
    batch = model.batch(checked, request.batch_size * request.n_iter)
    # Where the operator omits prompts from files, they are not in A1111's text either.
    has_parameters = settings.has_texts and capabilities.defaults.get("receipt", "full") == "full"
    return PicturesPlan(batch, notes, used, capabilities, has_parameters)


def _scribble(unit: ControlNetUnit, request: PicturesRequest, note: Callable[[str], None]) -> str:
    if unit.image is not None:
        return unit.image
    if request.default_scribble is None:
        raise unsupported("controlnet", "The ControlNet unit has no image. Send one, or set enabled to false.")
    note("The ControlNet unit has no image. As in A1111, the picture of init_images is its scribble.")
    return request.default_scribble


def _size(request: PicturesRequest, capabilities: Capabilities, note: Callable[[str], None]) -> dict[str, int]:
    if request.width is None and request.height is None:
        return {}
    # A missing side is like the other one. (A1111's default is 512, so its requests with one side are about square.)
    wanted = (request.width or request.height or 0, request.height or request.width or 0)
    return capabilities.size_fields(wanted, note)


@dataclass(frozen=True, slots=True)
class Settings:
    """The served members of `override_settings`."""

    clip_stop: int | None = None
    has_texts: bool = True


def read_settings(settings: Mapping[str, Any], note: Callable[[str], None]) -> Settings:
    """The served settings except the checkpoint, with a note for each of the others.

    Raises:
        InvalidRequestError: a value is invalid.
    """
    others = {name: plain(value) for name, value in settings.items() if name != checkpoints.OPTION}
    clip_stop = _whole_clip_stop(others.pop(_CLIP_STOP, None))
    png_info = others.pop(_PNG_INFO, None)
    has_texts = png_info is None or not is_off(png_info)
    for text in unserved_fields.notes(others, unserved.SETTINGS, (checkpoints.OPTION, _CLIP_STOP, _PNG_INFO)):
        note(f"override_settings: {text}")
    return Settings(clip_stop, has_texts)


def _whole_clip_stop(value: Any) -> int | None:
    if value in (None, ""):
        return None
    try:
        return _CLIP_STOPS.validate_python(value)
    except ValidationError:
        detail = f"`{_CLIP_STOP}` is {described(value)}; it must be a whole number from 1 to {_MAX_CLIP_STOP}."
        raise invalid_field("override_settings", "out_of_range", detail) from None


def _clip_stop(settings: Settings, request: PicturesRequest, note: Callable[[str], None]) -> int | None:
    """The layer at which the text encoders stop, from the end, which a request may have in two places."""
    if settings.clip_stop is None or request.clip_skip is None:
        return settings.clip_stop or request.clip_skip
    if max(settings.clip_stop, _SDXL_CLIP_STOP) != max(request.clip_skip, _SDXL_CLIP_STOP):
        note(f"`clip_skip` is {request.clip_skip}, and was ignored: override_settings has `{_CLIP_STOP}`, too.")
    return settings.clip_stop


def _layers_to_skip(clip_stop: int | None, note: Callable[[str], None]) -> int | None:
    """diffusers' `clip_skip`. It counts from the layer before the last, which SDXL uses even if A1111's value is 1."""
    if clip_stop is None or clip_stop <= _SDXL_CLIP_STOP:
        return None
    note(f"`{_CLIP_STOP}` is {clip_stop}: the prompt is encoded accordingly, while A1111 ignores it for SDXL.")
    return clip_stop - _SDXL_CLIP_STOP


async def read(body: bytes, kind: type[R], limits: images.ImageLimits) -> R:
    """Validate a JSON body, a long one in a thread. As in A1111, "20" is a number too."""
    return await raw_body.process(len(body) > raw_body.LONG_BYTES, _validated, body, kind, limits)


def _validated(body: bytes, kind: type[R], limits: images.ImageLimits) -> R:
    validation.require_few_elements(body, validation.FEW_ELEMENTS)
    request = validation.from_json(body, kind, limits, strict=False)
    if not isinstance(request, kind):
        raise TypeError("validated into another model")
    return request
