# SPDX-License-Identifier: Apache-2.0
"""A tensor as a pydantic field: validated by `json_values`, described as JSON Schema, with an example that works."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pybase64
from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, ValidationError, core_schema

from fastapi_triton import binary_arrays, json_values
from fastapi_triton.flaws import UnfitValueError
from fastapi_triton.images import ImageLimits
from fastapi_triton.model_config import TensorConfig

# Longer examples make /docs unreadable; a tensor that needs more gets one with the bytes left out.
_MAX_EXAMPLE = 64
# A free dimension of an example.
_FREE = 2
# A white pixel as PNG.
_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAGLvRWwAAAABJRU5ErkJggg=="


class NpyArray(BaseModel):
    """An array as a `.npy` file in base64: what `numpy.save` writes, with the tensor's dtype (BF16: float32)."""

    model_config = ConfigDict(extra="forbid")

    npy: str = Field(json_schema_extra={"contentEncoding": "base64"})


class RawArray(BaseModel):
    """An array's bytes in base64, little-endian, row by row; `shape` may be left out where only one is possible."""

    model_config = ConfigDict(extra="forbid")

    base64: str = Field(json_schema_extra={"contentEncoding": "base64"})
    shape: list[int] = Field(default_factory=list, json_schema_extra={"items": {"type": "integer", "minimum": 0}})


class Bytes(BaseModel):
    """A string of bytes that is no UTF-8 text, in base64."""

    model_config = ConfigDict(extra="forbid")

    base64: str = Field(json_schema_extra={"contentEncoding": "base64"})


@dataclass(frozen=True, slots=True)
class TensorField:
    """Stands in `Annotated[Any, TensorField(…)]`; the validated value is a numpy array without a batch dimension."""

    tensor: TensorConfig
    is_output: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(self._validate)

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        tensor = self.tensor
        element = _byte_string_schema(tensor, handler) if tensor.datatype.kind == "bytes" else _number_schema(tensor)
        forms: list[JsonSchemaValue] = []
        if tensor.is_single or (tensor.is_scalar and not self.is_output):
            forms.append(element)
        if not (tensor.is_single and self.is_output):
            forms.append(_nested(element, tensor.dims))
            if tensor.datatype.kind != "bytes":
                forms += [handler(NpyArray.__pydantic_core_schema__), handler(RawArray.__pydantic_core_schema__)]
        told = forms[0] if len(forms) == 1 else {"anyOf": forms}
        return {**told, "description": describe(tensor), "examples": [example(tensor)]}

    def _validate(self, value: Any, info: ValidationInfo[ImageLimits]) -> Any:
        try:
            return json_values.decode(value, self.tensor, info.context)
        except UnfitValueError as error:
            raise ValidationError.from_exception_data(
                self.tensor.name,
                [
                    InitErrorDetails(
                        type=PydanticCustomError(each.code, "{reason}", {"reason": each.reason}),
                        loc=each.location,
                        input=None,
                    )
                    for each in error.flaws
                ],
            ) from None


def describe(tensor: TensorConfig) -> str:
    """Datatype and dims, for a person."""
    shape = "" if tensor.is_single else f" {list(tensor.dims)}"
    content = "" if tensor.content is None else f", {tensor.content}"
    return f"{tensor.datatype.wire}{shape}{content}"


def example(tensor: TensorConfig) -> Any:
    """A value that the tensor takes."""
    element = _element_example(tensor)
    if tensor.is_scalar and (tensor.is_single or tensor.datatype.kind == "bytes"):
        return element
    shape = [_FREE if dim == -1 else dim for dim in tensor.dims]
    if math.prod(shape) <= _MAX_EXAMPLE:
        return np.full(shape, element, dtype=np.object_).tolist()
    if tensor.datatype.kind == "bytes":
        return f"(nested lists of the shape {shape})"
    return {binary_arrays.BASE64: f"(the {math.prod(shape) * tensor.datatype.numpy.itemsize} bytes)", "shape": shape}


def _element_example(tensor: TensorConfig) -> Any:
    if tensor.datatype.kind != "bytes":
        return {"bool": True, "integer": 1, "float": 0.5}[tensor.datatype.kind]
    if tensor.content in (None, "text"):
        return "text"
    return pybase64.b64encode(b"bytes").decode() if tensor.content == "binary" else _PIXEL


def _number_schema(tensor: TensorConfig) -> JsonSchemaValue:
    datatype = tensor.datatype
    if datatype.kind == "bool":
        return {"type": "boolean"}
    if datatype.kind == "integer":
        low, high = datatype.integer_range
        return {"type": "integer", "minimum": low, "maximum": high}
    number = {"type": "number", "minimum": -datatype.float_max, "maximum": datatype.float_max}
    return {"anyOf": [number, {"enum": list(json_values.NON_FINITE)}]}


def _byte_string_schema(tensor: TensorConfig, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
    if tensor.content is None:
        return {"anyOf": [{"type": "string"}, handler(Bytes.__pydantic_core_schema__)]}
    if tensor.content == "text":
        return {"type": "string"}
    media_type = "application/octet-stream" if tensor.content == "binary" else "image/*"
    return {"type": "string", "contentEncoding": "base64", "contentMediaType": media_type}


def _nested(element: JsonSchemaValue, dims: tuple[int, ...]) -> JsonSchemaValue:
    for dim in reversed(dims):
        size = {} if dim == -1 else {"minItems": dim, "maxItems": dim}
        element = {"type": "array", "items": element, **size}
    return element
