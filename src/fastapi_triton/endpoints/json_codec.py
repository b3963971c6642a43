# SPDX-License-Identifier: Apache-2.0
"""One JSON value ↔ one tensor, by the tensor's config. docs/datatypes.md tells the forms.

JSON is taken at its word: `true` is no 1, `3.0` no whole number, `"3"` no number. NaN and Infinity, which JSON lacks,
are the texts "NaN", "Infinity" and "-Infinity" where the datatype has them.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pybase64
from pydantic_core import PydanticCustomError

from fastapi_triton.core.errors import InferenceError
from fastapi_triton.endpoints import binary_arrays, images
from fastapi_triton.endpoints.value_errors import MAX_FLAWS, Flaw, Location, UnfitValueError, unfit
from fastapi_triton.triton.datatypes import Datatype
from fastapi_triton.triton.model_config import TensorConfig

Arrays = Literal["list", "npy", "base64"]
"""How arrays of numbers are written in an answer."""

NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_TYPES: dict[str, set[type]] = {"bool": {bool}, "integer": {int}, "float": {int, float, str}}
_WANTED = {"bool": "true or false", "integer": "a whole number", "float": "a number"}


def decode(value: Any, tensor: TensorConfig, limits: images.ImageLimits) -> npt.NDArray[Any]:
    """The value as an array in a shape that the config's dims allow, without a batch dimension.

    Raises:
        UnfitValueError: it does not fit; every reason.
        TooLargeError: a picture has more pixels than allowed.
    """
    is_bytes = tensor.datatype.kind == "bytes"
    if isinstance(value, dict) and not is_bytes:
        return binary_arrays.read(value, tensor)
    if isinstance(value, list):
        flat, shape = _flatten(value, tensor.dims)
    elif tensor.is_scalar:
        flat, shape = [value], (1,) * len(tensor.dims)
    else:
        raise unfit("wrong_type", f"must be a list of the shape {list(tensor.dims)}")
    try:
        made = _byte_strings(flat, tensor, limits) if is_bytes else _numbers(flat, tensor.datatype)
    except UnfitValueError as error:
        if not isinstance(value, list):
            raise UnfitValueError(*(Flaw(each.location[1:], each.code, each.reason) for each in error.flaws)) from None
        raise UnfitValueError(*(_placed(each, shape) for each in error.flaws)) from None
    return made.reshape(shape)


def encode(array: npt.NDArray[Any], tensor: TensorConfig, arrays: Arrays) -> Any:
    """What orjson writes as the JSON value of an array without a batch dimension.

    Raises:
        InferenceError: the array does not fit the config.
    """
    array = _shaped(array, tensor)
    if tensor.datatype.kind == "bytes":
        value: Any = _texts(array, tensor)
    elif arrays == "list" or tensor.is_single:
        value = _plain(array)
    else:
        return binary_arrays.as_npy(array) if arrays == "npy" else binary_arrays.as_raw(array)
    while tensor.is_single and isinstance(value, list | np.ndarray):
        value = value[0]
    return value


def _flatten(value: list[Any], dims: Sequence[int]) -> tuple[list[Any], tuple[int, ...]]:
    """The innermost values of nested lists, and their shape."""
    level: list[Any] = [value]
    shape: list[int] = []
    for dim in dims:
        if not set(map(type, level)) <= {list}:
            raise UnfitValueError(
                *(
                    Flaw(_location(index, shape), "wrong_type", f"must be a list, since the model takes {list(dims)}")
                    for index in _where(type(item) is not list for item in level)
                )
            )
        sizes = set(map(len, level))
        wanted = dim if dim >= 0 else len(level[0]) if level else 0
        if not sizes <= {wanted}:
            raise UnfitValueError(
                *(
                    Flaw(
                        _location(index, shape),
                        "wrong_shape",
                        f"has the length {len(level[index])}, but {'it must be' if dim >= 0 else 'the first list has'} "
                        f"{wanted}; the model takes {list(dims)}",
                    )
                    for index in _where(len(item) != wanted for item in level)
                )
            )
        shape.append(wanted)
        level = list(itertools.chain.from_iterable(level))
    return level, tuple(shape)


def _where(bad: Iterable[bool]) -> list[int]:
    return list(itertools.islice((index for index, is_bad in enumerate(bad) if is_bad), MAX_FLAWS))


def _location(index: int, shape: Sequence[int]) -> Location:
    return tuple(int(each) for each in np.unravel_index(index, shape)) if shape else ()


def _placed(flaw: Flaw, shape: Sequence[int]) -> Flaw:
    """A flaw of the flat list, at its place in the nested one."""
    index = flaw.location[0]
    return Flaw((*_location(int(index), shape), *flaw.location[1:]), flaw.code, flaw.reason)


def _numbers(flat: list[Any], datatype: Datatype) -> npt.NDArray[Any]:
    types = _TYPES[datatype.kind]
    found = set(map(type, flat))
    if not found <= types:
        raise UnfitValueError(*(_type_flaw(index, flat[index], datatype) for index in _bad_types(flat, types)))
    if datatype.kind == "integer":
        low, high = datatype.integer_range
        if flat and not low <= min(flat) <= max(flat) <= high:
            raise _out_of_range(_where(not low <= item <= high for item in flat), f"from {low} to {high}", datatype)
    if datatype.kind == "float":
        return _floats(flat, datatype, has_texts=str in found)
    return np.array(flat, dtype=datatype.numpy)


def _bad_types(flat: list[Any], types: set[type]) -> list[int]:
    return _where(type(item) not in types for item in flat)


def _type_flaw(index: int, item: Any, datatype: Datatype) -> Flaw:
    if isinstance(item, float) and not math.isfinite(item):
        return Flaw((index,), "not_finite", f"{datatype.wire} has no NaN or Infinity")
    return Flaw((index,), "wrong_type", f"must be {_WANTED[datatype.kind]}, for {datatype.wire}{_instead(item)}")


def _instead(item: Any) -> str:
    names = {
        bool: "true or false",
        int: "a number",
        float: "a number with a decimal point",
        str: "text",
        list: "a list",
    }
    return ", not " + ("null (leave the member out)" if item is None else names.get(type(item), "an object"))


def _out_of_range(indexes: list[int], allowed: str, datatype: Datatype) -> UnfitValueError:
    return UnfitValueError(
        *(Flaw((index,), "out_of_range", f"must be {allowed}, for {datatype.wire}") for index in indexes)
    )


def _floats(flat: list[Any], datatype: Datatype, *, has_texts: bool) -> npt.NDArray[Any]:
    is_named = [type(item) is str for item in flat] if has_texts else []
    if has_texts:
        unknown = _where(type(item) is str and item not in NON_FINITE for item in flat)
        if unknown:
            raise UnfitValueError(*(_type_flaw(index, flat[index], datatype) for index in unknown))
        flat = [NON_FINITE[item] if type(item) is str else item for item in flat]
    allowed = f"from {-datatype.float_max} to {datatype.float_max}"
    try:
        wide = np.array(flat, dtype=np.float64)
    except OverflowError:  # a whole number of hundreds of digits
        largest = int(np.finfo(np.float64).max)
        indexes = _where(isinstance(item, int) and abs(item) > largest for item in flat)
        raise _out_of_range(indexes, allowed, datatype) from None
    bare = ~np.isfinite(wide) & (~np.array(is_named) if has_texts else True)
    if bare.any():
        raise UnfitValueError(
            *(
                Flaw(
                    (index,),
                    "not_finite",
                    'must be finite, up to ±1.8e308; if you mean it, send the text "NaN", "Infinity" or "-Infinity"',
                )
                for index in _where(bare)
            )
        )
    beyond = np.isfinite(wide) & (np.abs(wide) > datatype.float_max)
    if beyond.any():
        raise _out_of_range(_where(beyond), allowed, datatype)
    return wide.astype(datatype.numpy)


def _byte_strings(flat: list[Any], tensor: TensorConfig, limits: images.ImageLimits) -> npt.NDArray[np.object_]:
    array = np.empty(len(flat), dtype=np.object_)
    flaws: list[Flaw] = []
    for index, item in enumerate(flat):
        try:
            array[index] = _byte_string(item, tensor, limits)
        except UnfitValueError as error:
            flaws += [Flaw((index, *each.location), each.code, each.reason) for each in error.flaws]
        if len(flaws) >= MAX_FLAWS:
            break
    if flaws:
        raise UnfitValueError(*flaws)
    return array


def _byte_string(item: Any, tensor: TensorConfig, limits: images.ImageLimits) -> bytes:
    content = tensor.content
    if content is None and isinstance(item, dict):
        if set(item) != {binary_arrays.BASE64}:
            raise unfit("wrong_type", 'an object must be {"base64": "…"}')
        return _from_base64(item[binary_arrays.BASE64], (binary_arrays.BASE64,))
    if not isinstance(item, str):
        forms = 'text, or {"base64": "…"}' if content is None else "text" if content == "text" else "base64 text"
        raise unfit("wrong_type", f"must be {forms}{_instead(item)}")
    if content in (None, "text"):
        return item.encode()
    data = _from_base64(item, ())
    if content == "binary":
        return data
    try:
        images.check(data, limits)
    except PydanticCustomError as error:
        raise unfit(error.type, error.message()) from None
    return data if content == "image" else pybase64.b64encode(data)


def _from_base64(text: Any, location: Location) -> bytes:
    if not isinstance(text, str):
        raise unfit("wrong_type", "must be base64 text", location)
    try:
        return images.decode(text)
    except ValueError as error:
        raise unfit("invalid_base64", f"this is not base64: {error}", location) from None


def _shaped(array: npt.NDArray[Any], tensor: TensorConfig) -> npt.NDArray[Any]:
    """The array in the config's dims. A Python model may answer fewer or more dimensions than its config says."""
    dims = tensor.dims
    if binary_arrays.fits(array.shape, dims):
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
    """Numbers as orjson writes them; only where some are not finite, which it would call null, by way of a list."""
    if array.dtype.kind == "V":  # BF16, which orjson does not know; float32 holds all of it
        array = array.astype(np.float32)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        texts = np.array([item if np.isfinite(item) else name_of(item) for item in array.flat], dtype=np.object_)
        return texts.reshape(array.shape).tolist()
    return np.ascontiguousarray(array)


def name_of(item: Any) -> str:
    """The text that stands for a number which JSON lacks."""
    return "NaN" if math.isnan(item) else "Infinity" if item > 0 else "-Infinity"


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
        raise InferenceError(f"The model's output `{tensor.name}` should be text, but is no UTF-8.") from None
