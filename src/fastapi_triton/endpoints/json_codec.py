# SPDX-License-Identifier: Apache-2.0
"""One value ↔ one tensor, by the tensor's config: JSON values, and the values of declared pydantic fields.

docs/reference/datatypes.md lists the forms. Values are not converted: `true` is not 1, `3.0` is not a whole
number, and "3" is not a number. NaN and Infinity, which JSON lacks, are the texts "NaN", "Infinity" and "-Infinity".
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import cache, partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pybase64
from pydantic_core import PydanticCustomError

from fastapi_triton.core.errors import InferenceError
from fastapi_triton.core.wrong_values import described, name_of
from fastapi_triton.endpoints import binary_arrays, image_tensors, images
from fastapi_triton.endpoints.value_errors import (
    MAX_PROBLEMS,
    InvalidValueError,
    Location,
    ValueProblem,
    from_base64,
    invalid_value,
)
from fastapi_triton.triton.datatypes import Datatype
from fastapi_triton.triton.model_config import TensorConfig, fits

Arrays = Literal["list", "npy", "base64", "png"]
"""The form of arrays of numbers in a response. `png` is for arrays that hold pictures; the others are lists."""

NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_TYPES: dict[str, set[type]] = {"bool": {bool}, "integer": {int}, "float": {int, float}}
_WANTED = {"bool": "true or false", "integer": "a whole number", "float": "a number"}
# If a list has numbers that do not fit, it is converted in chunks of this size.
_CHUNK = 1024
# The types that a declared field may use for a list.
_LISTS = (list, tuple, np.ndarray)


def decode(value: Any, tensor: TensorConfig, limits: images.ImageLimits) -> npt.NDArray[Any]:
    """A JSON value as an array in a shape that the config's dims allow, without a batch dimension.

    Raises:
        InvalidValueError: the value does not fit; the error has every reason.
        TooLargeError: a picture has more pixels than allowed.
    """
    if isinstance(value, dict) and tensor.datatype.kind != "bytes":
        return binary_arrays.read(value, tensor)
    if tensor.image is not None and _is_picture(value):
        return image_tensors.read(value, tensor, tensor.image, limits)
    if tensor.datatype.kind == "bytes":
        return _array(value, tensor, partial(_bytes_of_json, tensor=tensor, limits=limits))
    return _array(value, tensor, partial(_number, datatype=tensor.datatype, non_finite=NON_FINITE))


def _is_picture(value: Any) -> bool:
    """Whether the value of an image tensor is text: a picture's base64, or a list of them."""
    texts = value if isinstance(value, list) else [value]
    return bool(texts) and all(isinstance(text, str) and text not in NON_FINITE for text in texts)


def decode_field(value: Any, tensor: TensorConfig) -> npt.NDArray[Any]:
    """The value of a declared field as such an array. Text goes into the tensor unchanged, base64 text too.

    Raises:
        InvalidValueError: the value does not fit; the error has every reason.
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if tensor.datatype.kind == "bytes":
        return _array(value, tensor, bytes_of_field)
    return _array(value, tensor, partial(_number, datatype=tensor.datatype, non_finite={}))


def encode(array: npt.NDArray[Any], tensor: TensorConfig, arrays: Arrays) -> Any:
    """An array without a batch dimension, as a value that orjson can write.

    Raises:
        InferenceError: the array does not fit the config.
    """
    array = shaped(array, tensor)
    if tensor.datatype.kind == "bytes":
        value: Any = _texts(array, tensor)
    elif arrays == "png" and tensor.image is not None:
        return image_tensors.as_text(array, tensor, tensor.image)
    elif arrays in ("list", "png") or tensor.is_single:
        value = _plain(array)
    else:
        return binary_arrays.as_npy(array) if arrays == "npy" else binary_arrays.as_raw(array)
    while tensor.is_single and isinstance(value, list | np.ndarray):
        value = value[0]
    return value


def _array(value: Any, tensor: TensorConfig, element: Callable[[Any], Any]) -> npt.NDArray[Any]:
    """The array of a value; `element` converts one element, or raises `InvalidValueError`."""
    if isinstance(value, _LISTS):
        flat, shape = _flatten(value, tensor.dims)
        array = _plain_numbers(flat, tensor.datatype)
        if array is None:
            array = _elements(flat, tensor.datatype, element, shape)
        return array.reshape(shape)
    if not tensor.is_scalar:
        picture = "" if tensor.image is None else ", or a picture as base64 text"
        raise invalid_value(
            "wrong_type", f"is {described(value)}; it must be a list with the shape {list(tensor.dims)}{picture}"
        )
    return np.array([element(value)], dtype=tensor.datatype.numpy).reshape((1,) * len(tensor.dims))


def _flatten(value: Any, dims: Sequence[int]) -> tuple[list[Any], tuple[int, ...]]:
    """The innermost values of nested lists, and their shape."""
    level: list[Any] = [value]
    shape: list[int] = []
    for dim in dims:
        if not set(map(type, level)).issubset(_LISTS):
            raise InvalidValueError(
                ValueProblem(
                    _location(index, shape),
                    "wrong_type",
                    f"is {described(item)}; it must be a list, because the model takes {list(dims)}",
                )
                for index, item in enumerate(level)
                if not isinstance(item, _LISTS)
            )
        wanted = dim if dim >= 0 else len(level[0]) if level else 0
        if not set(map(len, level)) <= {wanted}:
            why = "it must be" if dim >= 0 else "the first list has"
            raise InvalidValueError(
                ValueProblem(
                    _location(index, shape),
                    "wrong_shape",
                    f"has the length {len(item)}, but {why} {wanted}; the model takes {list(dims)}",
                )
                for index, item in enumerate(level)
                if len(item) != wanted
            )
        shape.append(wanted)
        level = list(itertools.chain.from_iterable(level))
    return level, tuple(shape)


def _location(index: int, shape: Sequence[int]) -> Location:
    return tuple(int(each) for each in np.unravel_index(index, shape)) if shape else ()


def _elements(
    flat: list[Any], datatype: Datatype, element: Callable[[Any], Any], shape: Sequence[int]
) -> npt.NDArray[Any]:
    """The elements as an array. Chunks in which all numbers fit are converted at once, others one by one."""
    array = np.empty(len(flat), dtype=datatype.numpy)
    problems: list[ValueProblem] = []
    for start in range(0, len(flat), _CHUNK):
        chunk = flat[start : start + _CHUNK]
        numbers = _plain_numbers(chunk, datatype)
        if numbers is not None:
            array[start : start + len(chunk)] = numbers
            continue
        for index, item in enumerate(chunk, start):
            try:
                array[index] = element(item)
            except InvalidValueError as error:
                problems += [replace(each, location=_location(index, shape) + each.location) for each in error.problems]
                if len(problems) >= MAX_PROBLEMS:
                    raise InvalidValueError(problems) from None
    if problems:
        raise InvalidValueError(problems)
    return array


def _plain_numbers(flat: list[Any], datatype: Datatype) -> npt.NDArray[Any] | None:
    """Numbers that all fit, converted at once. None: they must be checked one by one."""
    if datatype.kind == "bytes" or not set(map(type, flat)) <= _TYPES[datatype.kind]:
        return None
    if datatype.kind == "float":
        try:
            with np.errstate(over="ignore"):
                array = np.array(flat, dtype=np.float64).astype(datatype.numpy)
        except OverflowError:  # a whole number of hundreds of digits
            return None
        return array if np.isfinite(array).all() else None
    if datatype.kind == "integer" and flat:
        low, high = datatype.integer_range
        if not low <= min(flat) <= max(flat) <= high:
            return None
    return np.array(flat, dtype=datatype.numpy)


def _number(item: Any, datatype: Datatype, non_finite: Mapping[str, float]) -> Any:
    kind = datatype.kind
    if isinstance(item, np.generic):
        item = item.item()
    elif isinstance(item, int) and not isinstance(item, bool):  # an IntEnum
        item = int(item)
    elif isinstance(item, Decimal) and kind == "float":
        item = float(item)
    if kind == "float" and isinstance(item, str) and item in non_finite:
        return non_finite[item]
    if isinstance(item, float) and not math.isfinite(item):
        if kind != "float":
            raise invalid_value("not_finite", f"is {name_of(item)}; it must be {_WANTED[kind]}, for {datatype.wire}")
        hint = f' (if that is intended, send the text "{name_of(item)}")' if non_finite else ""
        raise invalid_value("not_finite", f"is {name_of(item)}{hint}; it must be finite, up to ±1.8e308")
    if type(item) not in _TYPES[kind]:
        raise invalid_value("wrong_type", f"is {_wrong(item)}; it must be {_WANTED[kind]}, for {datatype.wire}")
    low, high = _range(datatype)
    if not low <= item <= high and _plain_numbers([item], datatype) is None:  # a float may be rounded into the range
        wanted = "a whole number " if kind == "integer" else ""
        reason = f"is {described(item)}; it must be {wanted}from {low} to {high}, for {datatype.wire}"
        raise invalid_value("out_of_range", reason)
    return float(item) if kind == "float" else item  # BF16 takes no large int


@cache
def _range(datatype: Datatype) -> tuple[float, float]:
    if datatype.kind == "float":
        return -datatype.float_max, datatype.float_max
    return datatype.integer_range if datatype.kind == "integer" else (False, True)


def _wrong(item: Any) -> str:
    return "null (omit the field instead)" if item is None else described(item)


def bytes_of_field(item: Any) -> bytes:
    """A field's text or bytes as an element of a BYTES tensor.

    Raises:
        InvalidValueError: it is neither text nor bytes.
    """
    if isinstance(item, str):
        try:
            return item.encode()
        except UnicodeEncodeError:  # half a surrogate pair
            raise invalid_value("invalid_text", "is not valid UTF-8 text") from None
    if isinstance(item, bytes):
        return item
    raise invalid_value("wrong_type", f"is {_wrong(item)}; it must be text")


def _bytes_of_json(item: Any, tensor: TensorConfig, limits: images.ImageLimits) -> bytes:
    content = tensor.content
    if content is None and isinstance(item, dict):
        if set(item) != {binary_arrays.BASE64}:
            raise invalid_value("wrong_type", binary_arrays.wrong_object(item, '{"base64": "…"}'))
        return from_base64(item[binary_arrays.BASE64], (binary_arrays.BASE64,))
    if not isinstance(item, str):
        forms = 'text or {"base64": "…"}' if content is None else "text" if content == "text" else "base64 text"
        raise invalid_value("wrong_type", f"is {_wrong(item)}; it must be {forms}")
    if content in (None, "text"):
        return item.encode()
    data = from_base64(item)
    if content == "binary":
        return data
    try:
        images.check(data, limits, field=tensor.name)
    except PydanticCustomError as error:
        raise invalid_value(error.type, error.message()) from None
    return data if content == "image" else pybase64.b64encode(data)


def shaped(array: npt.NDArray[Any], tensor: TensorConfig) -> npt.NDArray[Any]:
    """The array in the config's dims. A Python model may return fewer or more dimensions than its config has."""
    dims = tensor.dims
    if fits(array.shape, dims):
        return array
    known = math.prod(dim for dim in dims if dim >= 0)
    num_free = dims.count(-1)
    if num_free == 0 and array.size == known:
        return array.reshape(dims)
    if num_free == 1 and known and array.size % known == 0:
        return array.reshape([array.size // known if dim == -1 else dim for dim in dims])
    raise InferenceError(
        f"The model's output `{tensor.name}` has the shape {list(array.shape)}, but its config says {list(dims)}."
    )


def _plain(array: npt.NDArray[Any]) -> Any:
    """Numbers as orjson can write them: as an array, or as a list if some are not finite (orjson writes null)."""
    if array.dtype.kind == "V":  # BF16, which orjson does not know; float32 holds all of it
        array = array.astype(np.float32)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        texts = np.array([item if np.isfinite(item) else name_of(item) for item in array.flat], dtype=np.object_)
        return texts.reshape(array.shape).tolist()
    return np.ascontiguousarray(array)


def _texts(array: npt.NDArray[Any], tensor: TensorConfig) -> Any:
    texts = np.empty(array.size, dtype=np.object_)
    for index, item in enumerate(array.reshape(-1)):
        texts[index] = _text(item, tensor)
    return texts.reshape(array.shape).tolist()


def _text(item: bytes, tensor: TensorConfig) -> Any:
    if tensor.content in ("binary", "image"):
        return pybase64.b64encode(item).decode("ascii")
    try:
        return item.decode()
    except UnicodeDecodeError:
        if tensor.content is None:
            return {binary_arrays.BASE64: pybase64.b64encode(item).decode("ascii")}
        raise InferenceError(f"The model's output `{tensor.name}` should be text, but it is not valid UTF-8.") from None
