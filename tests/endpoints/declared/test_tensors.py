# SPDX-License-Identifier: Apache-2.0
"""Values become tensors of the config's datatype and shape, or an error names the field."""

from typing import Any

import numpy as np
import pytest

from fastapi_triton.core.errors import InvalidRequestError
from fastapi_triton.endpoints.declared import tensors
from fastapi_triton.triton.datatypes import BY_CONFIG, BY_WIRE, DATATYPES
from fastapi_triton.triton.model_config import ModelConfig, TensorConfig
from fastapi_triton.triton.tensor import Tensor


def config(datatype: str, dims: tuple[int, ...] = (1,), *, max_batch_size: int = 8) -> ModelConfig:
    tensor = TensorConfig("x", BY_CONFIG[datatype], dims)
    return ModelConfig("m", max_batch_size, (tensor,), (tensor,))


SAMPLES: dict[str, Any] = {"bool": True, "integer": 3, "float": 0.5, "bytes": "text"}


@pytest.mark.parametrize("datatype", DATATYPES, ids=lambda datatype: datatype.wire)
@pytest.mark.parametrize("max_batch_size", [0, 8])
def test_a_value_survives_the_round_trip(datatype: Any, max_batch_size: int) -> None:
    model = config(datatype.config, max_batch_size=max_batch_size)
    value = SAMPLES[datatype.kind]
    made = tensors.from_fields({"x": value}, model)
    assert made["x"].array.shape == ((1, 1) if max_batch_size else (1,))
    assert made["x"].array.dtype == datatype.numpy
    assert tensors.to_fields(made, model) == {"x": value}


@pytest.mark.parametrize("datatype", [each for each in DATATYPES if each.kind == "integer"], ids=lambda each: each.wire)
def test_integers_are_checked_at_both_ends_of_the_range(datatype: Any) -> None:
    low, high = datatype.integer_range
    for value in (low, high):
        assert tensors.from_fields({"x": value}, config(datatype.config))["x"].array.item() == value
    for value in (low - 1, high + 1):
        with pytest.raises(InvalidRequestError, match=rf"`x` is -?\d+; it must be a whole number from {low} to {high}"):
            tensors.from_fields({"x": value}, config(datatype.config))


@pytest.mark.parametrize(
    ("datatype", "value"), [("TYPE_FP32", 1e39), ("TYPE_FP16", 70_000), ("TYPE_FP64", float("inf"))]
)
def test_floats_that_overflow_are_rejected_and_not_sent_as_infinity(datatype: str, value: float) -> None:
    with pytest.raises(InvalidRequestError, match=r"must be (finite|from)"):
        tensors.from_fields({"x": value}, config(datatype))


def test_bytes_keep_their_trailing_nuls() -> None:
    made = tensors.from_fields({"x": b"a\x00\x00"}, config("TYPE_STRING"))
    assert made["x"].array.item() == b"a\x00\x00"


def test_lists_get_the_shape_of_the_config() -> None:
    model = config("TYPE_FP32", (-1, 2))
    made = tensors.from_fields({"x": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]}, model)
    assert made["x"].array.shape == (1, 3, 2)
    assert tensors.to_fields(made, model) == {"x": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]}
    with pytest.raises(
        InvalidRequestError, match=r"`x\.0` has the length 3, but it must be 2; the model takes \[-1, 2\]"
    ):
        tensors.from_fields({"x": [[1.0, 2.0, 3.0]]}, model)


def test_lists_of_texts_stay_lists() -> None:
    model = config("TYPE_STRING", (2,))
    made = tensors.from_fields({"x": ["a", "b"]}, model)
    assert made["x"].array.tolist() == [[b"a", b"b"]]
    assert tensors.to_fields(made, model) == {"x": ["a", "b"]}


def test_a_ragged_list_is_rejected() -> None:
    with pytest.raises(InvalidRequestError):
        tensors.from_fields({"x": [[1.0], [1.0, 2.0]]}, config("TYPE_FP32", (-1, -1)))
    with pytest.raises(InvalidRequestError):
        tensors.from_fields({"x": [["a"], ["b", "c"]]}, config("TYPE_STRING", (-1, -1)))


def test_the_error_lists_every_bad_field() -> None:
    inputs = tuple(TensorConfig(name, BY_CONFIG["TYPE_INT8"], (1,)) for name in ("a", "b", "c"))
    with pytest.raises(InvalidRequestError) as rejected:
        tensors.from_fields({"a": 300, "b": 1, "c": -300}, ModelConfig("m", 0, inputs, ()))
    assert [problem.pointer for problem in rejected.value.problems] == ["#/a", "#/c"]


def test_none_is_omitted_as_an_optional_input() -> None:
    assert tensors.from_fields({"x": None}, config("TYPE_INT32")) == {}


def test_an_output_of_lower_rank_than_in_the_config_is_read() -> None:
    response = {"x": Tensor(BY_WIRE["INT32"], np.array([5], np.int32))}  # (1,), but (1, 1) by the config
    assert tensors.to_fields(response, config("TYPE_INT32")) == {"x": 5}


@pytest.mark.parametrize("value", [b"\xff", memoryview(b"\xff")], ids=["bytes", "view"])
def test_bytes_that_are_not_text_stay_bytes(value: bytes | memoryview) -> None:
    response = {"x": Tensor.of_one(BY_WIRE["BYTES"], value, (1, 1))}
    assert tensors.to_fields(response, config("TYPE_STRING")) == {"x": b"\xff"}


def test_one_value_of_a_variable_dimension_comes_back_without_a_list() -> None:
    model = config("TYPE_FP32", (-1,))
    assert tensors.to_fields(tensors.from_fields({"x": 0.5}, model), model) == {"x": 0.5}
