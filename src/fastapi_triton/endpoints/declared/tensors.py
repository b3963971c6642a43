# SPDX-License-Identifier: Apache-2.0
"""Validated fields → input tensors; output tensors → fields. All are keyed by tensor name."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import BaseModel
from pydantic_core import ErrorDetails, to_json

from fastapi_triton.endpoints import json_codec
from fastapi_triton.endpoints.request_body import validation
from fastapi_triton.endpoints.value_errors import InvalidValueError
from fastapi_triton.triton.datatypes import Datatype
from fastapi_triton.triton.model_config import ModelConfig, TensorConfig
from fastapi_triton.triton.tensor import Tensor

# A smaller float fits every datatype: FP16 goes up to 65504.
_FITS_ALL_FLOATS = 65_000.0


def from_fields(fields: Mapping[str, Any], config: ModelConfig) -> dict[str, Tensor]:
    """One tensor per field. A field that is None is omitted, as an optional input.

    Raises:
        InvalidRequestError: a value does not fit its tensor; the error lists every such field.
    """
    tensors: dict[str, Tensor] = {}
    problems: list[ErrorDetails] = []
    known, is_batched = config.inputs_by_name, config.is_batched
    for name, value in fields.items():
        if value is None:
            continue
        tensor_config = known.get(name)
        if tensor_config is None:
            continue
        try:
            tensors[name] = _tensor(value, tensor_config, is_batched=is_batched)
        except InvalidValueError as error:
            problems += error.details(name)
    if problems:
        raise validation.invalid(problems, ())
    return tensors


def to_fields(tensors: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Any]:
    """Plain values of the first (and only) row. Text becomes `str`, or `bytes` if it is not UTF-8. A scalar stays a
    scalar."""
    fields: dict[str, Any] = {}
    for name, tensor in tensors.items():
        output = config.output(name)
        if output is None:
            continue
        if output.is_scalar and tensor.size == 1:
            fields[name] = _text(tensor.item())
            continue
        array = tensor.array[0] if config.is_batched else tensor.array
        # A Python model may return fewer dimensions than its config has.
        values = array.reshape(-1).tolist() if output.is_scalar else array.tolist()
        fields[name] = _text(values[0] if output.is_scalar and len(values) == 1 else values)
    return fields


def _tensor(value: Any, config: TensorConfig, *, is_batched: bool) -> Tensor:
    if config.is_scalar and (single := _single_value(value, config.datatype)) is not None:
        return Tensor.of_one(config.datatype, single, (1,) * (len(config.dims) + is_batched))
    array = json_codec.decode_field(value, config)
    return Tensor(config.datatype, array[np.newaxis] if is_batched else array)  # (1, *dims)


def _single_value(value: Any, datatype: Datatype) -> bytes | float | None:
    """A single value that fits without conversion, as most do, or an object. None: `decode_field` must convert it."""
    kind = datatype.kind
    if kind == "bytes" and isinstance(value, str):
        return json_codec.bytes_of_field(value)
    if kind == "bytes" and _is_object(value):
        return to_json(value)
    if kind == "bool" and isinstance(value, bool):
        return value
    if kind == "integer" and type(value) is int:
        low, high = datatype.integer_range
        return value if low <= value <= high else None
    if kind == "float" and isinstance(value, float):
        return value if abs(value) < _FITS_ALL_FLOATS else None
    return None


def _is_object(value: Any) -> bool:
    """Whether a value is declared as an object or as a list of objects, which is sent as JSON text."""
    return isinstance(value, BaseModel | dict) or (isinstance(value, list) and bool(value) and _is_object(value[0]))


def _text(value: Any) -> Any:
    if isinstance(value, list):
        return [_text(item) for item in value]
    if not isinstance(value, bytes | memoryview):
        return value
    try:
        return str(value, "utf-8")
    except UnicodeDecodeError:
        return bytes(value)
