# SPDX-License-Identifier: Apache-2.0
"""A1111's ControlNet unit: where the scribble is, and how strongly it counts."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from fastapi_triton.core.errors import InvalidRequestError, invalid_field, shown
from fastapi_triton.endpoints.images import Base64Image
from fastapi_triton.endpoints.request_body import validation
from fastapi_triton.pictures.text_to_image import TextToImage

# A ControlNet unit's preprocessors → our `invert`. With none, A1111 takes white on black only; here it is looked at.
MODULES = {"none": "auto", "invert (from white bg & black line)": "yes", "invert": "yes"}


def refuse(reason: str) -> BeforeValidator:
    """What would make another picture, and is not done here; off, in any of the ways of saying so, is fine."""

    def check(value: Any) -> Any:
        if value:
            raise PydanticCustomError("unsupported_parameter", "{reason}", {"reason": reason})
        return value

    return BeforeValidator(check)


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("wrong_type", "It must be a number, not true or false.")
    return value


# As A1111 takes them: "20" is a number too.
Whole = Annotated[int, BeforeValidator(_no_bool)]
Number = Annotated[float, BeforeValidator(_no_bool)]


def _sketch(value: Any) -> Any:
    """A unit's picture comes bare, or as an object with a mask."""
    if isinstance(value, Mapping):
        if value.get("mask"):
            raise PydanticCustomError("unsupported_parameter", "A mask is not done here. Leave it out.")
        value = value.get("image")
    return value or None


def _known_module(value: Any) -> Any:
    name = (value or "none").lower() if isinstance(value, str | None) else None
    if name not in MODULES:
        raise PydanticCustomError(
            "unsupported_parameter",
            "There are no preprocessors here but these: {known}. Send a scribble.",
            {"known": ", ".join(MODULES)},
        )
    return name


class ControlNetUnit(BaseModel):
    """One of `alwayson_scripts.controlnet.args`; fields that only preprocessors need are left alone."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    enabled: bool = True
    image: Annotated[Base64Image | None, BeforeValidator(_sketch)] = Field(
        None, validation_alias=AliasChoices("image", "input_image")
    )
    mask: Annotated[Any, refuse("A mask is not done here. Leave it out.")] = None
    module: Annotated[str, BeforeValidator(_known_module)] = "none"
    model: str | None = None
    weight: Number = 1.0
    guidance_start: Number = 0.0
    guidance_end: Number = 1.0
    control_mode: str | int = 0


def unit_of(scripts: Mapping[str, Any], model: TextToImage) -> ControlNetUnit | None:
    """The one unit of `alwayson_scripts` that is on, or none.

    Raises:
        InvalidRequestError: it is not done here, or it is another script.
    """
    units: list[ControlNetUnit] = []
    for name, script in scripts.items():
        arguments = script.get("args") if isinstance(script, Mapping) else script
        given = arguments if isinstance(arguments, list) else [arguments]
        if name.lower() == "controlnet":
            units += [_read_unit(each, model) for each in given if each]
        elif any(given[:1]):
            raise refused(name, f"There is no always-on script '{shown(name)}' here, only controlnet.")
    on = [unit for unit in units if unit.enabled]
    if len(on) > 1:
        raise refused("controlnet", f"{len(on)} ControlNet units are on; one is done here.")
    for unit in on:
        if unit.image is None:
            raise refused("controlnet", "The ControlNet unit has no image. Send the scribble, or enabled: false.")
        known = control_models(model)
        wanted = (unit.model or "None").partition(" [")[0]
        if wanted.lower() != "none" and wanted not in known and "scribble" not in wanted.lower():
            raise refused("controlnet", f"There is no ControlNet '{shown(unit.model)}' here, only {', '.join(known)}.")
    return on[0] if on else None


def control_models(model: TextToImage) -> list[str]:
    """The ControlNets that a unit may name; any other scribble ControlNet's name stands for it too."""
    return [model.name]


def _read_unit(unit: Any, model: TextToImage) -> ControlNetUnit:
    if not isinstance(unit, Mapping):
        raise refused("controlnet", "A ControlNet unit is an object with fields such as image and weight.")
    if unit.get("image") and unit.get("input_image") and unit["image"] != unit["input_image"]:
        raise refused("controlnet", "The ControlNet unit has two pictures, image and input_image. Send one of them.")
    return validation.from_python(
        unit, ControlNetUnit, model.endpoint.services.image_limits, location=("alwayson_scripts", "controlnet", "args")
    )


def refused(name: str, detail: str) -> InvalidRequestError:
    """The error for a field whose value or meaning is not supported."""
    return invalid_field(name, "unsupported_parameter", detail)
