# SPDX-License-Identifier: Apache-2.0
"""The JSON of Triton's generate extension: tensors → a request; response events → tensors.

It carries scalars and one-dimensional arrays, text as UTF-8, and no FP16 or BF16.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from pydantic_core import from_json

from fastapi_triton.core.errors import InvalidRequestError, invalid_field
from fastapi_triton.triton.client import Tensors
from fastapi_triton.triton.datatypes import Datatype
from fastapi_triton.triton.model_config import ModelConfig, TensorConfig
from fastapi_triton.triton.tensor import Tensor

EMPTY_LIST = "empty_list"
# Triton converts JSON numbers to every datatype but these.
UNSTREAMABLE = ("FP16", "BF16")


def unstreamable(config: ModelConfig) -> list[TensorConfig]:
    """The inputs and outputs that this protocol cannot carry."""
    tensors = (*config.inputs, *config.outputs)
    return [each for each in tensors if each.datatype.wire in UNSTREAMABLE or len(each.dims) > 1]


def request_body(inputs: Tensors, request_id: str) -> bytes:
    """The request for these inputs.

    Raises:
        InvalidRequestError: text is not UTF-8, or a number is not finite.
        TypeError: this protocol cannot carry a datatype or shape.
    """
    values = {name: _value(name, tensor) for name, tensor in inputs.items()}
    return orjson.dumps({"id": request_id, **values} if request_id else values)


def _value(name: str, tensor: Tensor) -> Any:
    array = tensor.array
    if tensor.datatype.wire in UNSTREAMABLE:
        raise TypeError(f"`{name}` is {tensor.datatype.wire}, which Triton's generate_stream cannot carry")
    if array.ndim > 1:
        raise TypeError(
            f"`{name}` has the shape {list(array.shape)}; Triton's generate_stream takes at most one dimension"
        )
    if tensor.datatype.kind == "float" and not np.isfinite(array).all():
        detail = f"`{name}` has a NaN or Infinity, which Triton's generate_stream cannot carry."
        raise invalid_field(name, "not_finite", detail)
    values = array.reshape(-1).tolist()
    if tensor.datatype.kind == "bytes":
        values = [_text(name, each) for each in values]
    return values[0] if len(values) == 1 else values


def _text(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        detail = f"`{name}` is not UTF-8 text. Send binary data as base64 text."
        raise invalid_field(name, "invalid_text", detail) from None


def no_empty_list(inputs: Tensors, error: InvalidRequestError) -> InvalidRequestError:
    """The error, with the field's name if Triton rejected an empty list.

    Triton 26.04 and newer reject empty lists ("Expected [-1], got []"). A decoupled model has no other HTTP endpoint.
    """
    empty = [name for name, tensor in inputs.items() if tensor.size == 0 and f"'{name}'" in error.detail]
    if not empty or "got []" not in error.detail:
        return error
    detail = (
        f"`{empty[0]}` is an empty list, which this Triton rejects for a decoupled model. Send a "
        "value, or leave the field out if it is optional."
    )
    return invalid_field(empty[0], EMPTY_LIST, detail)


def event(data: bytes) -> dict[str, Any]:
    """The members of an event. Triton writes NaN and Infinity, which are not valid JSON.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        members: dict[str, Any] = orjson.loads(data)
    except orjson.JSONDecodeError:
        members = from_json(data)
    return members


def names_of_no_text(data: bytes) -> list[str]:
    """The members of an event whose text is not UTF-8. Triton writes the model's bytes unchanged."""
    try:
        members = json.loads(data.decode("utf-8", "surrogateescape"))
    except ValueError:
        return []
    return [name for name, value in members.items() if not _is_utf_8(value)] if isinstance(members, dict) else []


def _is_utf_8(value: Any) -> bool:
    texts = [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, str)]
    return not any("\udc80" <= character <= "\udcff" for each in texts for character in each)


def error_text(event: Mapping[str, Any]) -> str | None:
    """The error message of an error event, else None."""
    message = event.get("error")
    return message if isinstance(message, str) and "model_name" not in event else None


def tensors(event: Mapping[str, Any], config: ModelConfig) -> dict[str, Tensor]:
    """The members of an event that are outputs of the model.

    Raises:
        ValueError, TypeError, OverflowError: a value does not fit its output's datatype.
    """
    return {
        output.name: Tensor(output.datatype, _array(event[output.name], output.datatype))
        for output in config.outputs
        if output.name in event
    }


def _array(value: Any, datatype: Datatype) -> np.ndarray[Any, Any]:
    """A one-dimensional tensor: in this protocol a scalar and an array of one look the same."""
    values = value if isinstance(value, list) else [value]
    if datatype.kind != "bytes":
        return np.asarray(values, dtype=datatype.numpy)
    array = np.empty(len(values), dtype=np.object_)
    array[:] = [each.encode() for each in values]
    return array
