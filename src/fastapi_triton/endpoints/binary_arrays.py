# SPDX-License-Identifier: Apache-2.0
"""Arrays of numbers in JSON, as base64.

`{"npy": …}` holds a file of `numpy.save`. `{"base64": …, "shape": […]}` holds the raw bytes, little-endian and row by
row. Nothing is ever unpickled.
"""

import io
import math
import tokenize
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pybase64
from numpy.lib import format as npy_format

from fastapi_triton.core.errors import shown
from fastapi_triton.core.wrong_values import described
from fastapi_triton.endpoints import images
from fastapi_triton.endpoints.value_errors import from_base64, invalid_value
from fastapi_triton.triton.model_config import TensorConfig, fits

NPY, BASE64, SHAPE = "npy", "base64", "shape"
_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
# Longer than any tensor that fits into a body. Larger numbers overflow inside numpy.
_MAX_DIM = 2**31 - 1


def npy_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of a `.npy` file of these values: float32 for BF16, which numpy lacks."""
    return np.dtype(np.float32) if dtype == _BFLOAT16 else dtype


def read(value: Mapping[str, Any], tensor: TensorConfig) -> npt.NDArray[Any]:
    """The array in one of the two objects.

    Raises:
        InvalidValueError: there is none, or it does not fit the tensor's config.
    """
    if set(value) == {NPY}:
        array = _read_npy(from_base64(value[NPY], (NPY,)), tensor)
    elif BASE64 in value and set(value) <= {BASE64, SHAPE}:
        array = _read_raw(from_base64(value[BASE64], (BASE64,)), value, tensor)
    else:
        raise invalid_value("wrong_type", wrong_object(value, f'{{"{NPY}": …}} or {{"{BASE64}": …, "{SHAPE}": […]}}'))
    if not fits(array.shape, tensor.dims):
        raise invalid_value(
            "wrong_shape", f"has the shape {list(array.shape)}, but the model takes {list(tensor.dims)}"
        )
    return array


def wrong_object(value: Mapping[str, Any], wanted: str) -> str:
    """The reason for an object with other members than `wanted`."""
    members = ", ".join(value)
    found = f"an object with {shown(members)}" if members else "an empty object"
    return f"is {found}; it must be {wanted}"


def as_npy(array: npt.NDArray[Any]) -> dict[str, Any]:
    """The array as a `.npy` file."""
    file = io.BytesIO()
    np.save(file, array.astype(npy_dtype(array.dtype), copy=False), allow_pickle=False)
    return {NPY: pybase64.b64encode(file.getvalue()).decode("ascii")}


def as_raw(array: npt.NDArray[Any]) -> dict[str, Any]:
    """The array's raw bytes, and its shape."""
    return {BASE64: pybase64.b64encode(array.tobytes()).decode("ascii"), SHAPE: list(array.shape)}


def _read_npy(data: bytes, tensor: TensorConfig) -> npt.NDArray[Any]:
    wanted = npy_dtype(tensor.datatype.numpy)
    shape, is_fortran, dtype, start = _npy_header(data)
    if dtype != wanted:
        hint = f"; send BF16 as {wanted}" if wanted != tensor.datatype.numpy else ""
        raise invalid_value(
            "wrong_type", f"has the dtype {dtype}, but {tensor.datatype.wire} needs {wanted}: .astype('{wanted}'){hint}"
        )
    _require_size(len(data) - start, shape, wanted)
    array = np.frombuffer(data, wanted, offset=start).reshape(shape, order="F" if is_fortran else "C")
    _require_booleans(array)
    if tensor.datatype.numpy == _BFLOAT16:
        return _to_bfloat16(array, tensor)
    return np.ascontiguousarray(array)


def _npy_header(data: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, Fortran order, dtype, and where the values start.

    numpy's own reader would allocate as much memory as a header claims.
    """
    file = io.BytesIO(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy reads headers of Python 2 with a warning
            version = npy_format.read_magic(file)  # type: ignore[no-untyped-call]
            if version not in ((1, 0), (2, 0)):
                raise ValueError(f"version {version} of the format is not supported")
            read_header = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
            shape, is_fortran, dtype = read_header(file)  # type: ignore[no-untyped-call]
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError):
        raise invalid_value("invalid_array", "is not a .npy file; write it with numpy.save", (NPY,)) from None
    return _checked_shape(shape, (NPY,)), is_fortran, dtype, file.tell()


def _read_raw(data: bytes, value: Mapping[str, Any], tensor: TensorConfig) -> npt.NDArray[Any]:
    dtype = tensor.datatype.numpy
    shape = value[SHAPE] if SHAPE in value else _implied_shape(len(data), tensor)
    if not isinstance(shape, list):
        raise invalid_value(
            "wrong_type", f"is {described(shape)}; it must be a list of whole numbers, as in [2, 3]", (SHAPE,)
        )
    checked = _checked_shape(shape, (SHAPE,))
    if tensor.image is not None and SHAPE not in value and images.media_type(data) is not None:
        _require_no_picture(len(data), checked, dtype)
    _require_size(len(data), checked, dtype)
    array = np.frombuffer(data, np.uint8 if dtype == np.bool_ else dtype).reshape(checked)
    _require_booleans(array.view(np.bool_) if dtype == np.bool_ else array)
    return array.view(dtype)


def _implied_shape(num_bytes: int, tensor: TensorConfig) -> list[int]:
    """The only shape that fits this number of bytes."""
    known = math.prod(dim for dim in tensor.dims if dim >= 0) * tensor.datatype.numpy.itemsize
    if tensor.dims.count(-1) > 1 or (-1 in tensor.dims and not known):
        raise invalid_value("missing_field", f"is required, because the model takes {list(tensor.dims)}", (SHAPE,))
    return [num_bytes // known if dim == -1 else dim for dim in tensor.dims]


def _checked_shape(shape: Sequence[Any], location: tuple[str, ...]) -> tuple[int, ...]:
    if not all(type(dim) is int and 0 <= dim <= _MAX_DIM for dim in shape):
        reason = f"holds the shape {shown(list(shape))}; a shape is a list of whole numbers from 0 to {_MAX_DIM}"
        raise invalid_value("wrong_shape", reason, location)
    return tuple(shape)


def _require_size(num_bytes: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    needed = math.prod(shape) * dtype.itemsize
    if num_bytes != needed:
        raise invalid_value(
            "wrong_shape", f"has {num_bytes:,} bytes, but the shape {list(shape)} of {dtype} needs {needed:,}"
        )


def _require_no_picture(num_bytes: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Reject a picture file in place of an array's bytes, unless it has their length by chance."""
    if num_bytes != math.prod(shape) * dtype.itemsize:
        reason = "holds a picture file, not the bytes of an array; send a picture as text, without the object"
        raise invalid_value("wrong_type", reason)


def _require_booleans(array: npt.NDArray[Any]) -> None:
    if array.dtype == np.bool_ and (array.view(np.uint8) > 1).any():
        wrong = int(array.view(np.uint8).max())
        raise invalid_value("invalid_value", f"has the byte {wrong}; each byte of a BOOL must be 0 or 1")


def _to_bfloat16(array: npt.NDArray[Any], tensor: TensorConfig) -> npt.NDArray[Any]:
    with np.errstate(over="ignore"):
        rounded = array.astype(_BFLOAT16)
    is_outside = np.isinf(rounded) & ~np.isinf(array)
    if is_outside.any():
        wrong = array[is_outside][0]
        raise invalid_value("out_of_range", f"has the value {wrong:g}; BF16 goes up to ±{tensor.datatype.float_max:g}")
    return np.ascontiguousarray(rounded)
