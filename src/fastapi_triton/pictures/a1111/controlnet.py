# SPDX-License-Identifier: Apache-2.0
"""A1111's ControlNet unit: the scribble, its weight and its control window."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from fastapi_triton.core.errors import InvalidRequestError, invalid_field, shown
from fastapi_triton.core.wrong_values import described
from fastapi_triton.endpoints.images import Base64Image
from fastapi_triton.endpoints.request_body import validation
from fastapi_triton.pictures.text_to_image import TextToImage

# Preprocessors, and the endpoint's `invert`. With "none", A1111 reads white on black only; this server reads both.
MODULES = {"none": "auto", "invert (from white bg & black line)": "yes", "invert": "yes"}


def reject(reason: str) -> BeforeValidator:
    """A validator for an unsupported field that would change the picture: it accepts only "off" values.

    `reason` says what is not supported; it follows the value.
    """

    def check(value: Any) -> Any:
        if value:
            detail = f"is {described(value)}; {reason}"
            raise PydanticCustomError("unsupported_parameter", "{detail}", {"detail": detail})
        return value

    return BeforeValidator(check)


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("wrong_type", "must be a number")
    return value


# As in A1111, "20" is a number too.
Whole = Annotated[int, BeforeValidator(_no_bool)]
Number = Annotated[float, BeforeValidator(_no_bool)]


def _scribble(value: Any) -> Any:
    """A unit's picture, which may also be in an object with a mask."""
    if isinstance(value, Mapping):
        if value.get("mask"):
            raise PydanticCustomError("unsupported_parameter", "has a mask; masks are not supported. Omit the mask.")
        value = value.get("image")
    return value or None


def _no_mask(value: Any) -> Any:
    if value:
        raise PydanticCustomError("unsupported_parameter", "is not supported. Omit the mask.")
    return value


def _known_module(value: Any) -> Any:
    name = (value or "none").lower() if isinstance(value, str | None) else None
    if name not in MODULES:
        raise PydanticCustomError(
            "unsupported_parameter",
            "is {value}; this preprocessor is not supported. Send a scribble with one of these: {known}.",
            {"value": described(value), "known": ", ".join(MODULES)},
        )
    return name


class ControlNetUnit(BaseModel):
    """An entry of `alwayson_scripts.controlnet.args`. `unserved.CONTROLNET` has the extension's other fields."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    enabled: bool = True
    image: Annotated[Base64Image | None, BeforeValidator(_scribble)] = Field(
        None, validation_alias=AliasChoices("image", "input_image")
    )
    mask: Annotated[Any, BeforeValidator(_no_mask)] = None
    module: Annotated[str, BeforeValidator(_known_module)] = "none"
    model: str | None = None
    weight: Number = 1.0
    guidance_start: Number = 0.0
    guidance_end: Number = 1.0
    control_mode: str | int = 0


def unit_of(scripts: Mapping[str, Any], model: TextToImage, note: Callable[[str], None]) -> ControlNetUnit | None:
    """The enabled ControlNet unit of `alwayson_scripts`, or None. Notes the scripts that are off.

    Raises:
        InvalidRequestError: the unit or another script is not supported.
    """
    units: list[ControlNetUnit] = []
    for name, script in scripts.items():
        arguments = script.get("args") if isinstance(script, Mapping) else script
        values = arguments if isinstance(arguments, list) else [arguments]
        if name.lower() == "controlnet":
            units += [_read_unit(each, model) for each in values if each]
        elif any(values[:1]):
            raise unsupported(name, f'The always-on script "{shown(name)}" is not supported, only controlnet is.')
        elif any(values):
            note(f'The always-on script "{shown(name)}" was ignored, because its first argument turns it off.')
    enabled = [unit for unit in units if unit.enabled]
    if len(enabled) > 1:
        raise unsupported(
            "controlnet", f"{len(enabled)} ControlNet units are enabled; only one is supported. Enable one."
        )
    for unit in enabled:
        if unit.image is None:
            raise unsupported("controlnet", "The ControlNet unit has no image. Send one, or set enabled to false.")
        known = control_models(model)
        wanted = (unit.model or "None").partition(" [")[0]
        if wanted.lower() != "none" and wanted not in known and "scribble" not in wanted.lower():
            raise unsupported(
                "controlnet", f'There is no ControlNet "{shown(unit.model)}"; this server has {", ".join(known)}.'
            )
    return enabled[0] if enabled else None


def control_models(model: TextToImage) -> list[str]:
    """The ControlNets that a unit may name. Names of other scribble ControlNets are accepted too."""
    return [model.name]


def _read_unit(unit: Any, model: TextToImage) -> ControlNetUnit:
    if not isinstance(unit, Mapping):
        raise unsupported(
            "controlnet",
            f"The ControlNet unit is {described(unit)}; it must be an object with fields such as image and weight.",
        )
    if unit.get("image") and unit.get("input_image") and unit["image"] != unit["input_image"]:
        raise unsupported(
            "controlnet", "The ControlNet unit has two different pictures, image and input_image. Send only one."
        )
    return validation.from_python(
        unit, ControlNetUnit, model.endpoint.services.image_limits, location=("alwayson_scripts", "controlnet", "args")
    )


def unsupported(name: str, detail: str) -> InvalidRequestError:
    """The error for a field whose value or meaning is not supported."""
    return invalid_field(name, "unsupported_parameter", detail)
