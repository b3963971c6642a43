# SPDX-License-Identifier: Apache-2.0
"""JSON values of every datatype become tensors and come back, or are rejected with a code and a location."""

import json
import math
from contextlib import suppress
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_triton.core.errors import InferenceError
from fastapi_triton.endpoints import json_codec
from fastapi_triton.endpoints.images import ImageLimits
from fastapi_triton.endpoints.value_errors import InvalidValueError
from fastapi_triton.triton.datatypes import BY_WIRE, DATATYPES, Datatype
from fastapi_triton.triton.model_config import TensorConfig
from support.json_values import same, values

LIMITS = ImageLimits(max_pixels=1000)

every_datatype = pytest.mark.parametrize("datatype", DATATYPES, ids=lambda datatype: datatype.wire)


def tensor(wire: str, *dims: int, content: Any = None) -> TensorConfig:
    return TensorConfig("x", BY_WIRE[wire], dims, content=content)


def decode(value: Any, config: TensorConfig) -> Any:
    return json_codec.decode(value, config, LIMITS)


def encode(array: Any, config: TensorConfig, arrays: json_codec.Arrays = "list") -> Any:
    """The value as a client gets it."""
    return json.loads(orjson.dumps(json_codec.encode(array, config, arrays), option=orjson.OPT_SERIALIZE_NUMPY))


def problems(value: Any, config: TensorConfig) -> list[tuple[Any, str]]:
    with pytest.raises(InvalidValueError) as error:
        decode(value, config)
    return [(each.location, each.code) for each in error.value.problems]


@every_datatype
@given(st.data())
def test_a_value_survives_the_round_trip(datatype: Datatype, data: st.DataObject) -> None:
    sent = data.draw(values(datatype))
    assert same(sent, encode(decode(sent, tensor(datatype.wire, 1)), tensor(datatype.wire, 1)), datatype)


@every_datatype
@given(st.data())
def test_nested_lists_survive_the_round_trip(datatype: Datatype, data: st.DataObject) -> None:
    size = data.draw(st.integers(0, 3))
    sent = data.draw(st.lists(st.lists(values(datatype), min_size=size, max_size=size), min_size=2, max_size=2))
    config = tensor(datatype.wire, 2, -1)
    array = decode(sent, config)
    assert array.shape == (2, size)
    assert array.dtype == datatype.numpy
    assert same(sent, encode(array, config), datatype)


@pytest.mark.parametrize("datatype", [each for each in DATATYPES if each.kind != "bytes"], ids=lambda each: each.wire)
@pytest.mark.parametrize("arrays", ["npy", "base64"])
@given(st.data())
def test_binary_arrays_survive_the_round_trip_bit_by_bit(
    datatype: Datatype, arrays: json_codec.Arrays, data: st.DataObject
) -> None:
    config = tensor(datatype.wire, -1, 2)
    array = decode(data.draw(st.lists(st.lists(values(datatype), min_size=2, max_size=2), max_size=3)), config)
    again = decode(encode(array, config, arrays), config)
    assert again.dtype == array.dtype
    assert again.shape == array.shape
    assert again.tobytes() == array.tobytes()


anything = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.integers(-(10**400), 10**400)
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["npy", "base64", "shape", "x"]), inner, max_size=3),
    ),
    max_leaves=6,
)


@every_datatype
@given(value=anything, dims=st.sampled_from([(1,), (-1,), (2, -1), (-1, -1)]))
def test_any_value_is_accepted_or_rejected(datatype: Datatype, value: Any, dims: tuple[int, ...]) -> None:
    config = tensor(datatype.wire, *dims)
    with suppress(InvalidValueError):
        array = decode(value, config)
        assert array.dtype == datatype.numpy
        encode(array, config)


@pytest.mark.parametrize("datatype", [each for each in DATATYPES if each.kind == "integer"], ids=lambda each: each.wire)
def test_integers_are_checked_at_both_ends_of_the_range(datatype: Datatype) -> None:
    low, high = datatype.integer_range
    assert decode([low, high], tensor(datatype.wire, -1)).tolist() == [low, high]
    assert problems([low, low - 1, high, high + 1], tensor(datatype.wire, -1)) == [
        ((1,), "out_of_range"),
        ((3,), "out_of_range"),
    ]


@pytest.mark.parametrize("datatype", [each for each in DATATYPES if each.kind == "float"], ids=lambda each: each.wire)
def test_floats_are_checked_against_the_range(datatype: Datatype) -> None:
    largest = datatype.float_max
    assert np.isfinite(decode([largest, -largest], tensor(datatype.wire, -1)).astype(np.float64)).all()
    assert problems(10**400, tensor(datatype.wire, 1)) == [((), "out_of_range")]
    if datatype.wire != "FP64":  # Python reads no larger JSON number
        assert problems([0, largest * 1.01], tensor(datatype.wire, -1)) == [((1,), "out_of_range")]


@pytest.mark.parametrize(
    ("wire", "value", "code"),
    [
        ("BOOL", 1, "wrong_type"),
        ("BOOL", "true", "wrong_type"),
        ("INT32", True, "wrong_type"),
        ("INT32", 3.0, "wrong_type"),
        ("INT32", "3", "wrong_type"),
        ("INT32", "NaN", "wrong_type"),
        ("INT32", math.nan, "not_finite"),
        ("BOOL", math.inf, "not_finite"),
        ("FP32", True, "wrong_type"),
        ("FP32", "1.0", "wrong_type"),
        ("FP32", "nan", "wrong_type"),
        ("FP32", math.nan, "not_finite"),
        ("FP64", math.inf, "not_finite"),
        ("BYTES", 1, "wrong_type"),
        ("FP32", None, "wrong_type"),
        ("BYTES", None, "wrong_type"),
        ("BYTES", {"base64": "a"}, "invalid_base64"),
        ("BYTES", {"text": "a"}, "wrong_type"),
        ("FP32", {"shape": [1]}, "wrong_type"),
        ("FP32", [[1]], "wrong_type"),
        ("FP32", [], "wrong_shape"),
        ("FP32", [1, 2], "wrong_shape"),
    ],
)
def test_json_values_are_not_converted(wire: str, value: Any, code: str) -> None:
    assert [each for _, each in problems(value, tensor(wire, 1))] == [code]


@pytest.mark.parametrize(
    ("wire", "value", "reason"),
    [
        ("INT8", 128, "is 128; it must be a whole number from -128 to 127, for INT8"),
        ("INT8", 1.5, "is 1.5; it must be a whole number, for INT8"),
        ("INT8", "7" * 200, f'is "{"7" * 99}…"; it must be a whole number, for INT8'),
        ("BOOL", None, "is null (omit the field instead); it must be true or false, for BOOL"),
        ("BOOL", math.inf, "is Infinity; it must be true or false, for BOOL"),
        ("FP32", {"shape": [1]}, 'is an object with shape; it must be {"npy": …} or {"base64": …, "shape": […]}'),
        ("FP32", [[1]], "is a list; it must be a number, for FP32"),
        ("FP32", math.nan, 'is NaN (if that is intended, send the text "NaN"); it must be finite, up to ±1.8e308'),
        ("BYTES", 1, 'is 1; it must be text or {"base64": "…"}'),
        ("BYTES", {"base64": False}, "is false; it must be base64 text"),
    ],
)
def test_the_reason_shows_the_wrong_value(wire: str, value: Any, reason: str) -> None:
    with pytest.raises(InvalidValueError) as error:
        decode(value, tensor(wire, 1))
    assert str(error.value) == reason


def test_problems_in_nested_lists_have_their_location() -> None:
    assert problems([[1, "a"], [True, 2]], tensor("INT32", 2, 2)) == [((0, 1), "wrong_type"), ((1, 0), "wrong_type")]
    assert problems([[1, 2], [3]], tensor("INT32", 2, -1)) == [((1,), "wrong_shape")]
    assert problems([[1, 2], 3], tensor("INT32", 2, -1)) == [((1,), "wrong_type")]
    assert problems([["a", {"base64": "?"}]], tensor("BYTES", 1, 2)) == [((0, 1, "base64"), "invalid_base64")]


def test_at_most_ten_problems_are_listed() -> None:
    assert len(problems(["a"] * 1000, tensor("INT32", -1))) == 10


def test_a_plain_value_is_accepted_if_every_dim_is_one_or_variable() -> None:
    assert decode(1, tensor("INT32", 1, -1)).shape == (1, 1)
    assert problems(1, tensor("INT32", 2)) == [((), "wrong_type")]


def test_an_output_is_plain_only_if_it_always_has_one_value() -> None:
    one = np.array([[7]], np.int32)
    assert encode(one, tensor("INT32", 1, 1)) == 7
    assert encode(one, tensor("INT32", 1, -1)) == [[7]]
    assert encode(one, tensor("INT32", 1, 1), "npy") == 7


def test_an_output_of_another_rank_gets_the_configs_shape() -> None:
    numbers = np.arange(6, dtype=np.int32)
    assert encode(numbers, tensor("INT32", 2, 3)) == [[0, 1, 2], [3, 4, 5]]
    assert encode(numbers, tensor("INT32", 2, -1)) == [[0, 1, 2], [3, 4, 5]]
    assert encode(np.array(5, np.int32), tensor("INT32", 1)) == 5
    for dims in ((4,), (4, -1), (-1, -1), (0, -1)):
        with pytest.raises(InferenceError, match=r"`x` has the shape \[6\]"):
            encode(numbers, tensor("INT32", *dims))


def test_floats_are_written_with_the_fewest_digits() -> None:
    array = decode([0.1, "NaN"], tensor("FP32", -1))
    assert orjson.dumps(json_codec.encode(array, tensor("FP32", -1), "list"), option=orjson.OPT_SERIALIZE_NUMPY) == (
        b'[0.1,"NaN"]'
    )


def test_a_content_hint_defines_the_form_of_bytes() -> None:
    assert decode("/w==", tensor("BYTES", 1, content="binary")).item() == b"\xff"
    assert encode(np.array([b"\xff"], object), tensor("BYTES", 1, content="binary")) == "/w=="
    assert problems({"base64": "/w=="}, tensor("BYTES", 1, content="text")) == [((), "wrong_type")]
    assert encode(np.array([b"a"], object), tensor("BYTES", 1, content="text")) == "a"
    with pytest.raises(InferenceError, match="not valid UTF-8"):
        encode(np.array([b"\xff"], object), tensor("BYTES", 1, content="text"))
