# SPDX-License-Identifier: Apache-2.0
"""Validated fields → input tensors; output tensors → fields. Fields and tensors go by the same names."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fastapi_triton.core.errors import FieldProblem, pointer, refusal
from fastapi_triton.endpoints.value_errors import UnfitValueError, unfit
from fastapi_triton.triton.datatypes import Datatype
from fastapi_triton.triton.model_config import ModelConfig, TensorConfig
from fastapi_triton.triton.tensor import Tensor

# A single float that is less needs no look at whether it overflows: FP16 goes up to 65504.
_FITS_ALL_FLOATS = 65_000.0
_WHOLE, _BOOLEAN = (int, np.integer), (bool, np.bool_)
_RAGGED = "its lists differ in length"


def from_fields(fields: Mapping[str, Any], config: ModelConfig) -> dict[str, Tensor]:
    """One tensor per field; a field that is None is left out, as an optional input.

    Raises:
        InvalidRequestError: a value does not fit its tensor; every such field is named.
    """
    tensors: dict[str, Tensor] = {}
    problems: list[FieldProblem] = []
    known, is_batched = config.inputs_by_name, config.is_batched
    for name, value in fields.items():
        if value is None:
            continue
        tensor_config = known.get(name)
        if tensor_config is None:
            continue
        try:
            tensors[name] = _tensor(value, tensor_config, is_batched=is_batched)
        except UnfitValueError as error:
            problems.append(FieldProblem(pointer((name,)), error.flaws[0].code, f"`{name}`: {error}."))
        except UnicodeEncodeError:  # half a surrogate pair
            problems.append(FieldProblem(pointer((name,)), "invalid_text", f"`{name}`: this text is not UTF-8."))
    if problems:
        raise refusal(problems)
    return tensors


def to_fields(tensors: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Any]:
    """Plain values of the first (and only) row. Text comes as `str`, or as `bytes` if it is not UTF-8; a scalar stays a
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
        # A Python model may answer fewer dimensions than its config says.
        values = array.reshape(-1).tolist() if output.is_scalar else array.tolist()
        fields[name] = _text(values[0] if output.is_scalar and len(values) == 1 else values)
    return fields


def _tensor(value: Any, config: TensorConfig, *, is_batched: bool) -> Tensor:
    if config.is_scalar and (one := _one(value, config.datatype)) is not None:
        return Tensor.of_one(config.datatype, one, (1,) * (len(config.dims) + is_batched))
    array = _byte_array(value) if config.datatype.kind == "bytes" else _number_array(value, config)
    if array.ndim == 0:
        array = array.reshape([1] * len(config.dims))
    if len(array.shape) != len(config.dims) or any(
        dim not in (-1, size) for size, dim in zip(array.shape, config.dims, strict=True)
    ):
        raise unfit("wrong_shape", f"its shape is {list(array.shape)}, but the model takes {list(config.dims)}")
    return Tensor(config.datatype, array[np.newaxis] if is_batched else array)  # (1, *dims)


def _one(value: Any, datatype: Datatype) -> bytes | float | None:
    """One text or number, as most are, that fits; None: it has to be looked at in the way that does for everything."""
    kind = datatype.kind
    if kind == "bytes" and isinstance(value, str):
        return value.encode()
    if kind == "bool" and isinstance(value, bool):
        return value
    if kind == "integer" and isinstance(value, int):
        low, high = datatype.integer_range
        return value if low <= value <= high else None
    if kind == "float" and isinstance(value, float):
        return value if abs(value) < _FITS_ALL_FLOATS else None
    return None


def _byte_array(value: Any) -> npt.NDArray[np.object_]:
    # Not np.array(value, dtype=bytes): numpy's own bytes type strips trailing NULs.
    if isinstance(value, list | tuple):
        rows = [_byte_array(item) for item in value]
        if any(row.shape != rows[0].shape for row in rows):  # numpy would repeat the shorter ones
            raise unfit("wrong_shape", _RAGGED)
        array = np.empty((len(rows), *(rows[0].shape if rows else ())), dtype=np.object_)
        for index, row in enumerate(rows):
            array[index] = row if row.ndim else row.item()
        return array
    if not isinstance(value, str | bytes):
        raise unfit("wrong_type", "must be text")
    array = np.empty((), dtype=np.object_)
    array[()] = value.encode() if isinstance(value, str) else value
    return array


def _number_array(value: Any, config: TensorConfig) -> npt.NDArray[Any]:
    datatype = config.datatype
    if datatype.kind == "float":
        return _float_array(value, datatype)
    types = _WHOLE if datatype.kind == "integer" else _BOOLEAN
    exact: npt.NDArray[Any] = np.asarray(value, dtype=np.object_)
    if not all(isinstance(item, types) for item in exact.flat):
        # Of lists that differ in length numpy makes an array of lists.
        is_ragged = any(isinstance(item, list | tuple) for item in exact.flat)
        wanted = "a whole number" if datatype.kind == "integer" else "true or false"
        raise unfit("wrong_shape", _RAGGED) if is_ragged else unfit("wrong_type", f"must be {wanted}")
    if datatype.kind == "integer":
        # Triton wraps silently what is out of range, so it is held here.
        low, high = datatype.integer_range
        if any(not low <= item <= high for item in exact.flat):
            raise unfit("out_of_range", f"must be a whole number from {low} to {high}")
    return exact.astype(datatype.numpy)


def _float_array(value: Any, datatype: Datatype) -> npt.NDArray[Any]:
    try:
        with np.errstate(over="ignore"):
            array = np.asarray(value, dtype=datatype.numpy)
    except OverflowError:  # a whole number of hundreds of digits
        array = np.asarray(np.inf)
    except (TypeError, ValueError):
        raise unfit("wrong_type", "must be a number, or numbers in lists of the same length") from None
    if not np.isfinite(array).all():
        raise unfit("out_of_range", f"must be a finite number that fits {datatype.wire}")
    return array


def _text(value: Any) -> Any:
    if isinstance(value, list):
        return [_text(item) for item in value]
    if not isinstance(value, bytes | memoryview):
        return value
    try:
        return str(value, "utf-8")
    except UnicodeDecodeError:
        return bytes(value)
