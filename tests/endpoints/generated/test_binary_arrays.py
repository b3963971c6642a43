# SPDX-License-Identifier: Apache-2.0
"""Arrays in base64: files of numpy are read, and harmful or wrong ones rejected."""

import base64
import io
import pickle
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_triton.endpoints import binary_arrays
from fastapi_triton.endpoints.value_errors import InvalidValueError
from fastapi_triton.triton.datatypes import BY_WIRE
from fastapi_triton.triton.model_config import TensorConfig


def tensor(wire: str, *dims: int) -> TensorConfig:
    return TensorConfig("x", BY_WIRE[wire], dims)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def npy(array: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def header(text: str) -> bytes:
    """A `.npy` file with this header and no values."""
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode("latin1")


def rejection(value: Any, config: TensorConfig) -> tuple[str, str]:
    with pytest.raises(InvalidValueError) as error:
        binary_arrays.read(value, config)
    (problem,) = error.value.problems
    return problem.code, problem.reason


def test_files_of_numpy_are_read() -> None:
    array = np.arange(6, dtype=np.int16).reshape(2, 3)
    for each in (array, np.asfortranarray(array), array[:, ::1]):
        assert binary_arrays.read({"npy": b64(npy(each))}, tensor("INT16", 2, -1)).tolist() == array.tolist()


def test_bf16_is_float32_in_a_npy_and_rounded_to_the_nearest() -> None:
    read = binary_arrays.read({"npy": b64(npy(np.array([1.00390625 + 0.002, 3], np.float32)))}, tensor("BF16", -1))
    assert read.dtype == np.dtype(ml_dtypes.bfloat16)
    assert read.astype(np.float32).tolist() == [1.0078125, 3.0]
    code, _ = rejection({"npy": b64(npy(np.array([3.4028e38], np.float32)))}, tensor("BF16", -1))
    assert code == "out_of_range"


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (npy(np.array([1.0])), "wrong_type", ".astype('float32')"),
        (npy(np.array([1.0], ">f4")), "wrong_type", "float32"),
        (npy(np.array([[1.0]], np.float32)), "wrong_shape", "[1, 1]"),
        (npy(np.array([1.0, 2.0], np.float32))[:-1], "wrong_shape", "7 bytes"),
        (npy(np.array([1.0], np.float32)) + b"\0", "wrong_shape", "5 bytes"),
        (npy(np.array(["a", None], object), allow_pickle=True), "wrong_type", "object"),
        (pickle.dumps(np.array([1.0], np.float32)), "invalid_array", "numpy.save"),
        (b"", "invalid_array", "numpy.save"),
        (b"\x93NUMPY\x01\x00\xff", "invalid_array", "numpy.save"),
        (header("{'descr': '<f4', 'fortran_order': False, 'shape': (2000000000,)}"), "wrong_shape", "0 bytes"),
        (header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}"), "wrong_shape", "whole numbers"),
        (header("{'descr': '<f4', 'fortran_order': False, 'shape': (True,)}"), "wrong_shape", "whole numbers"),
        (header("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 99999999999)}"), "wrong_shape", "whole numbers"),
        (header("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}"), "wrong_type", "float32"),
        (header("__import__('os').abort()"), "invalid_array", "numpy.save"),
        (header("(" * 900), "invalid_array", "numpy.save"),
        (header("'''"), "invalid_array", "numpy.save"),
    ],
)
def test_a_npy_that_does_not_fit_the_tensor_is_rejected(data: bytes, code: str, words: str) -> None:
    found_code, reason = rejection({"npy": b64(data)}, tensor("FP32", -1))
    assert found_code == code
    assert words in reason


@given(st.binary(max_size=200), st.booleans())
def test_any_wrong_bytes_are_rejected(data: bytes, has_magic: bool) -> None:
    value = {"npy": b64(b"\x93NUMPY\x01\x00" + data if has_magic else data)}
    with pytest.raises(InvalidValueError):
        binary_arrays.read(value, tensor("FP32", 3))


@given(st.text(max_size=120))
def test_any_wrong_header_is_rejected(text: str) -> None:
    value = {"npy": b64(header(text.encode("latin1", "ignore").decode("latin1")))}
    with pytest.raises(InvalidValueError):
        binary_arrays.read(value, tensor("FP32", 3))


def test_raw_bytes_are_little_endian_and_row_by_row() -> None:
    value = {"base64": b64(bytes([1, 0, 2, 0, 3, 0, 4, 0])), "shape": [2, 2]}
    assert binary_arrays.read(value, tensor("UINT16", 2, -1)).tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(("dims", "shape"), [((2, 2), (2, 2)), ((-1,), (4,)), ((2, -1), (2, 2))])
def test_the_shape_is_optional_where_only_one_is_possible(dims: tuple[int, ...], shape: tuple[int, ...]) -> None:
    assert binary_arrays.read({"base64": b64(bytes(4))}, tensor("INT8", *dims)).shape == shape


@pytest.mark.parametrize(
    ("value", "dims", "code"),
    [
        ({"base64": b64(bytes(4))}, (-1, -1), "missing_field"),
        ({"base64": b64(bytes(3))}, (2, -1), "wrong_shape"),
        ({"base64": b64(bytes(4)), "shape": [4]}, (2, -1), "wrong_shape"),
        ({"base64": b64(bytes(4)), "shape": [2, 3]}, (2, -1), "wrong_shape"),
        ({"base64": b64(bytes(4)), "shape": [2, 2.0]}, (2, -1), "wrong_shape"),
        ({"base64": b64(bytes(4)), "shape": [2, True]}, (2, -1), "wrong_shape"),
        ({"base64": "", "shape": [0, 2**40]}, (-1, -1), "wrong_shape"),
        ({"base64": b64(bytes(4)), "shape": "2,2"}, (2, 2), "wrong_type"),
        ({"base64": b64(bytes(4)), "shape": None}, (2, 2), "wrong_type"),
        ({"base64": 4}, (2, 2), "wrong_type"),
        ({"base64": "a", "npy": "b"}, (2, 2), "wrong_type"),
        ({}, (2, 2), "wrong_type"),
        ({"base64": "%%%%"}, (2, 2), "invalid_base64"),
    ],
)
def test_raw_bytes_that_do_not_fit_the_tensor_are_rejected(value: Any, dims: tuple[int, ...], code: str) -> None:
    assert rejection(value, tensor("INT8", *dims))[0] == code


def test_a_bool_is_one_byte_of_zero_or_one() -> None:
    assert binary_arrays.read({"base64": b64(b"\x01\x00")}, tensor("BOOL", 2)).tolist() == [True, False]
    assert rejection({"base64": b64(b"\x02\x00")}, tensor("BOOL", 2))[0] == "invalid_value"
