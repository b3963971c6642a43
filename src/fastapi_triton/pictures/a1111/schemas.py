# SPDX-License-Identifier: Apache-2.0
"""What A1111's `txt2img` may be asked → the fields of the model behind it, and what was done to make them fit."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from fastapi_triton.core.errors import InvalidRequestError, shown
from fastapi_triton.endpoints import images
from fastapi_triton.endpoints.request_body import validation
from fastapi_triton.pictures.a1111 import samplers
from fastapi_triton.pictures.a1111.controlnet import MODULES, Number, Whole, refuse, refused, unit_of
from fastapi_triton.pictures.text_to_image import MAX_PICTURES, Capabilities, TextToImage

# Pixels, as under `/v1`.
_MAX_SIDE = 99_999
# A1111's fields without effect here: their feature is refused, or the server decides.
_IDLE = frozenset(
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
_OF_SECOND_PASS = ("hr_", "firstphase_", "firstpass_")
# Values of other fields that ask for this server's own behaviour.
_NEUTRAL = {"eta": 1, "s_noise": 1}
# How many fields one note names.
_MAX_NAMES = 10


class Txt2ImgRequest(BaseModel):
    """The fields of `txt2img` that have an effect here, or are refused. Others are noted and ignored."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    prompt: str = ""
    negative_prompt: str | None = None
    seed: Whole | None = Field(None, description="-1 or left out: drawn, and told in `info`")
    steps: Whole | None = Field(None, description="left out: the model's default")
    cfg_scale: Number | None = Field(None, description="left out: the model's default")
    width: Whole | None = Field(None, ge=1, le=_MAX_SIDE, description="snapped to the nearest size that the model does")
    height: Whole | None = Field(None, ge=1, le=_MAX_SIDE)
    sampler_name: str | None = None
    sampler_index: str | None = Field(None, description="the older name of sampler_name")
    scheduler: str | None = None
    batch_size: Whole = Field(1, ge=1, le=MAX_PICTURES)
    n_iter: Whole = Field(1, ge=1, le=MAX_PICTURES)
    send_images: bool = True
    force_task_id: str | None = Field(None, max_length=200, description="asks for this picture's progress by name")
    override_settings: dict[str, Any] | None = None
    alwayson_scripts: dict[str, Any] | None = Field(None, description="`controlnet` with one unit: the scribble")
    styles: list[str] | None = None
    restore_faces: bool | None = None
    enable_hr: Annotated[Any, refuse("There is no second pass; ask for the size itself.")] = None
    tiling: Annotated[Any, refuse("Tiling is not done here.")] = None
    script_name: Annotated[Any, refuse("There are no scripts here but ControlNet.")] = None
    subseed_strength: Annotated[Any, refuse("Variations of a seed are not done here.")] = None
    refiner_checkpoint: Annotated[Any, refuse("There is no refiner here.")] = None


@dataclass(frozen=True, slots=True)
class Txt2ImgPlan:
    """What is to be made; `notes` say what was asked for and is not so."""

    batch: list[dict[str, Any]]
    notes: list[str]
    sampler: str
    capabilities: Capabilities


def plan(request: Txt2ImgRequest, model: TextToImage, capabilities: Capabilities) -> Txt2ImgPlan:
    """A validated body as a plan.

    Raises:
        InvalidRequestError: something in it is not done here.
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
            notes.append(f"control_mode {shown(unit.control_mode)} is not done here; it is Balanced.")
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
    # A1111's own default for a side that is left out is 512: a square, where the other is not far from it.
    wanted = (request.width or request.height or 0, request.height or request.width or 0)
    return capabilities.size_fields(wanted, note)


def _note_settings(request: Txt2ImgRequest, capabilities: Capabilities, note: Callable[[str], None]) -> None:
    for name, value in (request.override_settings or {}).items():
        if name == "sd_model_checkpoint":
            require_checkpoint(value, capabilities)
        elif value:
            note(f"This server has no setting {shown(name)}; it was ignored.")
    _note_left_alone(request.model_extra or {}, note)
    if request.styles:
        note("There are no styles here; they were left out.")
    if request.restore_faces:
        note("Faces are not restored here.")


def _note_left_alone(fields: Mapping[str, Any], note: Callable[[str], None]) -> None:
    names = [
        shown(name)
        for name, value in fields.items()
        if value and value != _NEUTRAL.get(name) and name not in _IDLE and not name.startswith(_OF_SECOND_PASS)
    ]
    if names:
        more = f" and {len(names) - _MAX_NAMES:,} more" if len(names) > _MAX_NAMES else ""
        note(f"These fields have no effect here and were ignored: {', '.join(names[:_MAX_NAMES])}{more}.")


def require_checkpoint(name: Any, capabilities: Capabilities) -> None:
    """Raises InvalidRequestError: this is not the checkpoint that is served."""
    if name not in (None, "", capabilities.name):
        raise refused("sd_model_checkpoint", f"There is no checkpoint {shown(name)} here; it is {capabilities.name}.")


def require_options(options: Any, current: Mapping[str, Any], capabilities: Capabilities) -> None:
    """Raises InvalidRequestError: they would change something, which nobody may for all others."""
    if not isinstance(options, Mapping):
        raise InvalidRequestError("The body must be one JSON object.", code="wrong_type")
    for name, value in options.items():
        if name == "sd_model_checkpoint":
            require_checkpoint(value, capabilities)
        elif value != current.get(name):
            raise refused(name, f"The option {shown(name)} cannot be set here.")


def read(body: bytes, limits: images.ImageLimits) -> Txt2ImgRequest:
    """A JSON body; A1111 does not mind "20" for a number."""
    validation.require_few_elements(body, validation.FEW_ELEMENTS)
    request = validation.from_json(body, Txt2ImgRequest, limits, strict=False)
    if not isinstance(request, Txt2ImgRequest):
        raise TypeError("validated into another model")
    return request
