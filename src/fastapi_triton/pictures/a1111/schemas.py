# SPDX-License-Identifier: Apache-2.0
"""The request fields of A1111's `txt2img`, and their translation to the endpoint's fields."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from fastapi_triton.core.errors import InvalidRequestError, shown
from fastapi_triton.core.wrong_values import described
from fastapi_triton.endpoints import images
from fastapi_triton.endpoints.request_body import validation
from fastapi_triton.pictures.a1111 import samplers
from fastapi_triton.pictures.a1111.controlnet import MODULES, Number, Whole, reject, unit_of, unsupported
from fastapi_triton.pictures.text_to_image import MAX_PICTURES, Capabilities, TextToImage

# In pixels, the same limit as under `/v1`.
_MAX_SIDE = 99_999
# Fields that are ignored without a note: the feature that they belong to is rejected, or the server decides.
_IGNORED = frozenset(
    (
        "denoising_strength",
        "disable_extra_networks",
        "do_not_save_grid",
        "do_not_save_samples",
        "override_settings_restore_afterwards",
        "refiner_switch_at",
        "save_images",
        "script_args",
        "seed_resize_from_h",
        "seed_resize_from_w",
        "subseed",
    )
)
_SECOND_PASS_PREFIXES = ("hr_", "firstphase_", "firstpass_")
# Values of other fields that mean what this server does anyway.
_NEUTRAL = {"eta": 1, "s_noise": 1}
# The most field names in one note.
_MAX_NAMES = 10


class Txt2ImgRequest(BaseModel):
    """The supported fields of `txt2img`, and those that are rejected. Other fields are ignored, with a note."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    prompt: str = Field("", examples=["a red house in the snow"])
    negative_prompt: str | None = None
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
    styles: list[str] | None = None
    restore_faces: bool | None = None
    enable_hr: Annotated[
        Any, reject("a second pass is not supported. Set width and height to the size that you need.")
    ] = None
    tiling: Annotated[Any, reject("tiled pictures are not supported. Omit this field.")] = None
    script_name: Annotated[Any, reject("scripts are not supported. Omit this field.")] = None
    subseed_strength: Annotated[Any, reject("variations of a seed are not supported. Omit this field.")] = None
    refiner_checkpoint: Annotated[Any, reject("a refiner is not supported. Omit this field.")] = None


@dataclass(frozen=True, slots=True)
class Txt2ImgPlan:
    """The pictures to make. `notes` are the differences from the request."""

    batch: list[dict[str, Any]]
    notes: list[str]
    sampler: str
    capabilities: Capabilities


def plan(request: Txt2ImgRequest, model: TextToImage, capabilities: Capabilities) -> Txt2ImgPlan:
    """Translate a validated body.

    Raises:
        InvalidRequestError: a value is not supported.
    """
    notes: list[str] = []
    unit = unit_of(request.alwayson_scripts or {}, model)
    scheduler = samplers.scheduler(
        request.sampler_name or request.sampler_index, request.scheduler, capabilities, notes.append
    )
    _note_settings(request, capabilities, notes.append)
    fields: dict[str, Any] = {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "seed": request.seed,
        "num_inference_steps": request.steps,
        "guidance_scale": request.cfg_scale,
        "scheduler": scheduler,
        "output_format": "png",
        **_size(request, capabilities, notes.append),
    }
    if unit is not None:
        if unit.control_mode not in (0, "0", "Balanced"):
            notes.append(f"control_mode {shown(unit.control_mode)} is not supported; Balanced is used.")
        fields |= {
            "image": unit.image,
            "conditioning_scale": unit.weight,
            "control_guidance_start": unit.guidance_start,
            "control_guidance_end": unit.guidance_end,
            "invert": MODULES[unit.module],
        }
    batch = model.batch(model.check(fields), request.batch_size * request.n_iter)
    used = scheduler or capabilities.defaults.get("scheduler", "")
    return Txt2ImgPlan(batch, notes, samplers.LABELS.get(used, used), capabilities)


def _size(request: Txt2ImgRequest, capabilities: Capabilities, note: Callable[[str], None]) -> dict[str, int]:
    if request.width is None and request.height is None:
        return {}
    # A missing side is like the other one. (A1111's default is 512, so its requests with one side are about square.)
    wanted = (request.width or request.height or 0, request.height or request.width or 0)
    return capabilities.size_fields(wanted, note)


def _note_settings(request: Txt2ImgRequest, capabilities: Capabilities, note: Callable[[str], None]) -> None:
    for name, value in (request.override_settings or {}).items():
        if name == "sd_model_checkpoint":
            require_checkpoint(value, capabilities)
        elif value:
            note(f"The setting {shown(name)} is not supported and was ignored.")
    _note_ignored(request.model_extra or {}, note)
    if request.styles:
        note("styles are not supported and were ignored.")
    if request.restore_faces:
        note("restore_faces is not supported and was ignored.")


def _note_ignored(fields: Mapping[str, Any], note: Callable[[str], None]) -> None:
    names = [
        shown(name)
        for name, value in fields.items()
        if value and value != _NEUTRAL.get(name) and name not in _IGNORED and not name.startswith(_SECOND_PASS_PREFIXES)
    ]
    if names:
        more = f" and {len(names) - _MAX_NAMES:,} more" if len(names) > _MAX_NAMES else ""
        note(f"These fields are not supported and were ignored: {', '.join(names[:_MAX_NAMES])}{more}.")


def require_checkpoint(name: Any, capabilities: Capabilities) -> None:
    """Check a checkpoint's name.

    Raises:
        InvalidRequestError: this server has another checkpoint.
    """
    if name not in (None, "", capabilities.name):
        raise unsupported(
            "sd_model_checkpoint", f'There is no checkpoint "{shown(name)}"; this server has {capabilities.name}.'
        )


def require_options(options: Any, current: Mapping[str, Any], capabilities: Capabilities) -> None:
    """Check the body of `POST /options`.

    Raises:
        InvalidRequestError: an option would change, and so it would for all clients.
    """
    if not isinstance(options, Mapping):
        raise InvalidRequestError(f"The body is {described(options)}; it must be a JSON object.", code="wrong_type")
    for name, value in options.items():
        if name == "sd_model_checkpoint":
            require_checkpoint(value, capabilities)
        elif value != current.get(name):
            raise unsupported(
                name, f"`{shown(name)}` is {described(value)}; the options of this server cannot be changed."
            )


def read(body: bytes, limits: images.ImageLimits) -> Txt2ImgRequest:
    """Validate a JSON body. As in A1111, "20" is a number too."""
    validation.require_few_elements(body, validation.FEW_ELEMENTS)
    request = validation.from_json(body, Txt2ImgRequest, limits, strict=False)
    if not isinstance(request, Txt2ImgRequest):
        raise TypeError("validated into another model")
    return request
