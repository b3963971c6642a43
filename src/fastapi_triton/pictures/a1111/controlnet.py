# SPDX-License-Identifier: Apache-2.0
"""A1111's ControlNet unit: the scribble, its weight and its control window."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from fastapi_triton.core.errors import InvalidRequestError, invalid_field, shown
from fastapi_triton.core.wrong_values import described
from fastapi_triton.endpoints import images
from fastapi_triton.endpoints.images import Base64Image
from fastapi_triton.endpoints.request_body import validation
from fastapi_triton.pictures import unserved_fields
from fastapi_triton.pictures.a1111 import saved_values, unserved
from fastapi_triton.pictures.a1111.saved_values import is_nothing, is_off, plain
from fastapi_triton.pictures.text_to_image import Size, TextToImage

# Preprocessors, and the endpoint's `invert`. With "none", A1111 reads white on black only; this server reads both.
MODULES = {"none": "auto", "invert (from white bg & black line)": "yes", "invert": "yes"}
# The older names of a unit's fields.
_OLD_NAMES = {"input_image": "image", "mask_image": "mask", "guidance": "guidance_end"}
_BALANCED = (0, "0", "balanced")
# The whole scribble is used, by the names and the number of all versions of the extension.
_WHOLE = (2, "2", "resize and fill", "envelope (outer fit)", "outer fit (shrink to fit)")
# Shapes that differ by less count as equal.
SHAPE_TOLERANCE = 0.02


def reject(reason: str) -> BeforeValidator:
    """A validator for an unsupported field that would change the picture: it accepts only "off" values.

    `reason` says what is not supported; it follows the value.
    """

    def check(value: Any) -> Any:
        if not is_nothing(value):
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
    image: Base64Image | None = None
    mask: Annotated[Any, BeforeValidator(_no_mask)] = None
    module: Annotated[str, BeforeValidator(_known_module)] = "none"
    model: str | None = None
    weight: Number = 1.0
    guidance_start: Number = 0.0
    guidance_end: Number = 1.0
    control_mode: str | int = 0
    resize_mode: str | int = 2

    @field_validator("*", mode="before")
    @classmethod
    def _or_default(cls, value: Any, info: ValidationInfo) -> Any:
        return saved_values.or_default(cls, value, info)

    def note_differences(self, size: Size | None, note: Callable[[str], None]) -> None:
        """Note what A1111 does differently; `size` is the picture's, if the request has one."""
        if _lower(self.control_mode) not in _BALANCED:
            note(f"control_mode {shown(self.control_mode)} is not supported; Balanced is used.")
        if _lower(self.resize_mode) not in _WHOLE and self.image and not has_shape(self.image, size):
            note(f"resize_mode {shown(self.resize_mode)} is not supported; the whole scribble is used.")
        extra = {name: plain(value) for name, value in (self.model_extra or {}).items()}
        for text in unserved_fields.notes(extra, unserved.CONTROLNET, ControlNetUnit.model_fields):
            note(text)


def _lower(value: str | int) -> str | int:
    return value.strip().lower() if isinstance(value, str) else value


def has_shape(picture: str, size: Size | None) -> bool:
    """Whether a checked picture has about the shape of a size."""
    if size is None:
        return True
    width, height = images.upright_size(images.decode(picture))
    return abs(math.log(width * size[1] / (height * size[0]))) <= SHAPE_TOLERANCE


def enabled_unit(units: Sequence[Any], model: TextToImage) -> ControlNetUnit | None:
    """The enabled one of a request's units, or None. Units that are off are not judged.

    Raises:
        InvalidRequestError: the unit is not supported, or several are enabled.
    """
    found = [_as_object(unit) for unit in units if unit and not _is_off(unit)]
    if len(found) > 1:  # before their pictures are read
        raise unsupported(
            "controlnet", f"{len(found)} ControlNet units are enabled; only one is supported. Enable one."
        )
    if not found:
        return None
    unit = _read_unit(found[0], model)
    known = control_models(model)
    wanted = (unit.model or "None").partition(" [")[0]
    if wanted.lower() != "none" and wanted not in known and "scribble" not in wanted.lower():
        raise unsupported(
            "controlnet", f'There is no ControlNet "{shown(unit.model)}"; this server has {", ".join(known)}.'
        )
    return unit


def control_models(model: TextToImage) -> list[str]:
    """The ControlNets that a unit may name. Names of other scribble ControlNets are accepted too."""
    return [model.name]


def _is_off(unit: Any) -> bool:
    enabled = plain(unit.get("enabled")) if isinstance(unit, Mapping) else None
    return enabled is not None and is_off(enabled)


def _as_object(unit: Any) -> Mapping[str, Any]:
    if not isinstance(unit, Mapping):
        raise unsupported(
            "controlnet",
            f"The ControlNet unit is {described(unit)}; it must be an object with fields such as image and weight.",
        )
    return unit


def _read_unit(unit: Mapping[str, Any], model: TextToImage) -> ControlNetUnit:
    limits = model.endpoint.services.image_limits
    place = ("alwayson_scripts", "controlnet", "args")
    return validation.from_python(_with_new_names(unit), ControlNetUnit, limits, location=place)


def _with_new_names(unit: Mapping[str, Any]) -> dict[str, Any]:
    """The unit with the newest names of its fields, and with a plain picture.

    Raises:
        InvalidRequestError: a field was sent by two names with different values, or it has several pictures.
    """
    new: dict[str, Any] = {}
    for name, value in unit.items():
        field = _OLD_NAMES.get(name, name)
        if field == "image":
            value, mask = _picture_and_mask(value)
            new |= {"mask": mask} if mask else {}
        if plain(value) in (None, "") or new.get(field) == value:
            continue
        if field in new:
            old = next(each for each, newer in _OLD_NAMES.items() if newer == field)
            raise unsupported("controlnet", f"The ControlNet unit has two different {field}s: {field} and {old}.")
        new[field] = value
    return new


def _picture_and_mask(value: Any) -> tuple[Any, Any]:
    """The picture of a unit in each of the extension's notations: text, an object, a pair, and a list of objects."""
    while isinstance(value, list) and len(value) == 1:
        (value,) = value
    if isinstance(value, Mapping):
        return value.get("image"), value.get("mask")
    if isinstance(value, list):
        if len(value) > 2 or any(isinstance(each, Mapping) for each in value):
            raise unsupported("controlnet", f"The ControlNet unit has {len(value)} pictures; send exactly one.")
        return (value[0], value[1]) if value else (None, None)
    return value, None


def unsupported(name: str, detail: str) -> InvalidRequestError:
    """The error for a field whose value or meaning is not supported."""
    return invalid_field(name, "unsupported_parameter", detail)
