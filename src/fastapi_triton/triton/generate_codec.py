# SPDX-License-Identifier: Apache-2.0
"""The JSON of Triton's generate extension: tensors → a request; response events → tensors.

It carries the values of a tensor as a flat list, text as UTF-8, and no FP16 or BF16. Triton finds the shape of an input
in the model's config, so at most one dimension may be free; this module does the same for outputs.
"""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from pydantic_core import from_json

from fastapi_triton.core.errors import InferenceError, InvalidRequestError, invalid_field
from fastapi_triton.triton.client import Tensors, Unstreamable
from fastapi_triton.triton.error_mapping import stream_failure, unreadable
from fastapi_triton.triton.model_config import ModelConfig, TensorConfig
from fastapi_triton.triton.tensor import Tensor

logger = logging.getLogger(__name__)

EMPTY_LIST = "empty_list"
# Triton converts JSON numbers to every datatype but these.
UNSTREAMABLE = ("FP16", "BF16")
# The hints for bytes that are no text.
_NO_TEXT = ("binary", "image")


# Members with a meaning of their own. Outputs of these names are missing in Triton's responses.
_RESERVED_INPUTS = ("parameters",)
_RESERVED_OUTPUTS = ("model_name", "model_version")
# The request's id, unless the model has a tensor of this name.
_ID = "id"


def unstreamable(config: ModelConfig) -> Unstreamable:
    """The inputs and outputs that this protocol cannot carry."""
    return Unstreamable(
        _with_reasons(config.inputs, _RESERVED_INPUTS),
        _with_reasons(config.outputs, _RESERVED_OUTPUTS),
        remedy="with TRITON_GRPC_URL, the frontend streams it over gRPC",
    )


def _with_reasons(tensors: Sequence[TensorConfig], reserved: Sequence[str]) -> dict[str, str]:
    found = {each.name: _reason(each, is_reserved=each.name in reserved) for each in tensors}
    return {name: reason for name, reason in found.items() if reason}


def _reason(tensor: TensorConfig, *, is_reserved: bool) -> str:
    """Why a tensor cannot be carried, else an empty text."""
    if tensor.datatype.wire in UNSTREAMABLE:
        return f"is {tensor.datatype.wire}, which Triton's generate_stream cannot carry"
    if tensor.dims.count(-1) > 1:
        return f"has the dims {list(tensor.dims)}; Triton's generate_stream supports at most one free dimension"
    if tensor.content in _NO_TEXT:
        return f"holds bytes ({tensor.content}); Triton's generate_stream carries only UTF-8 text"
    return "has a name that Triton's generate_stream reserves" if is_reserved else ""


def request_body(inputs: Tensors, request_id: str, config: ModelConfig) -> bytes:
    """The request for these inputs. It has the id, unless the model has a tensor `id`.

    Raises:
        InvalidRequestError: text is not UTF-8, or a number is not finite.
        TypeError: this protocol cannot carry an input.
    """
    if refused := {name: reason for name, reason in unstreamable(config).inputs.items() if name in inputs}:
        raise TypeError("; ".join(f"`{name}` {reason}" for name, reason in refused.items()))
    values = {name: _value(name, tensor) for name, tensor in inputs.items()}
    has_id = bool(request_id) and config.input(_ID) is None and config.output(_ID) is None
    return orjson.dumps({_ID: request_id, **values} if has_id else values)


def _value(name: str, tensor: Tensor) -> Any:
    array = tensor.array
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
        output.name: Tensor(output.datatype, _array(event[output.name], output))
        for output in config.outputs
        if output.name in event
    }


def _array(value: Any, output: TensorConfig) -> np.ndarray[Any, Any]:
    """The values in the config's dims; in one dimension if they do not fit, because a model may return other shapes."""
    values = value if isinstance(value, list) else [value]
    if output.datatype.kind == "bytes":
        array = np.empty(len(values), dtype=np.object_)
        array[:] = [each.encode() for each in values]
    else:
        array = np.asarray(values, dtype=output.datatype.numpy)
    known = math.prod(dim for dim in output.dims if dim != -1)
    free = len(values) // known if known else 0
    shape = [free if dim == -1 else dim for dim in output.dims]
    return array.reshape(shape) if math.prod(shape) == len(values) else array


def response_tensors(data: bytes, config: ModelConfig) -> dict[str, Tensor]:
    """The outputs in the data of an event.

    Raises:
        FastAPITritonError: it reports an error, or cannot be read.
    """
    try:
        members = event(data)
        message = error_text(members)
        if message is None and "model_name" not in members:
            raise ValueError("the data is not an event of Triton's")
        if message is None:
            return tensors(members, config)
    except (ValueError, TypeError, KeyError, OverflowError, AttributeError) as error:
        logger.error(
            "model %s: an event of %d bytes of its stream cannot be read: %s",
            config.name,
            len(data),
            type(error).__name__,
        )
        if names := names_of_no_text(data):
            detail = f"The model {config.name} returned bytes that are not UTF-8 text, in `{'`, `'.join(names)}`."
            raise InferenceError(detail) from None
        raise unreadable(config.name) from None
    raise stream_failure(config.name, message)
