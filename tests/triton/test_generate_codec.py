# SPDX-License-Identifier: Apache-2.0
"""Encoding and decoding of the JSON of Triton's generate extension."""

import json
import math
from typing import Any

import numpy as np
import pytest

from fastapi_triton.core.errors import InvalidRequestError
from fastapi_triton.triton import generate_codec
from fastapi_triton.triton.datatypes import BY_CONFIG, BY_WIRE, DATATYPES
from fastapi_triton.triton.model_config import ModelConfig, TensorConfig
from fastapi_triton.triton.tensor import Tensor

STREAMABLE = [each for each in DATATYPES if each.wire not in generate_codec.UNSTREAMABLE]
SAMPLES: dict[str, list[Any]] = {
    "bool": [True, False],
    "integer": [3, 0],
    "float": [0.5, -1e-7],
    "bytes": [b"a", b"\x00"],
}


def tensor(wire: str, values: list[Any]) -> Tensor:
    datatype = BY_WIRE[wire]
    if datatype.kind == "bytes":
        array = np.empty(len(values), np.object_)
        array[:] = values
        return Tensor(datatype, array)
    return Tensor(datatype, np.array(values, datatype.numpy))


def config(datatype: str, dims: tuple[int, ...] = (-1,), name: str = "x") -> ModelConfig:
    x = TensorConfig(name, BY_CONFIG[datatype], dims)
    return ModelConfig("m", 0, (x,), (x,), decoupled=True)


def body(inputs: dict[str, Tensor], request_id: str = "", model: ModelConfig | None = None) -> Any:
    return json.loads(generate_codec.request_body(inputs, request_id, model or config("TYPE_INT32")))


@pytest.mark.parametrize("datatype", STREAMABLE, ids=lambda datatype: datatype.wire)
@pytest.mark.parametrize("length", [1, 2])
def test_encoded_tensors_decode_to_the_same_values(datatype: Any, length: int) -> None:
    sent = tensor(datatype.wire, SAMPLES[datatype.kind][:length])
    event = body({"x": sent}, "", config(datatype.config))
    back = generate_codec.tensors(event, config(datatype.config))["x"]
    assert back.array.dtype == datatype.numpy
    assert back.array.tolist() == sent.array.tolist()


def test_a_single_value_is_encoded_as_a_scalar_beside_the_id() -> None:
    inputs = {"prompt": tensor("BYTES", ["Häuschen".encode()]), "seed": tensor("INT64", [2**62 + 1])}
    assert body(inputs, "abc") == {
        "id": "abc",
        "prompt": "Häuschen",
        "seed": 2**62 + 1,
    }


def test_the_error_for_bytes_that_are_not_text_names_the_tensor() -> None:
    with pytest.raises(InvalidRequestError) as raised:
        body({"image": tensor("BYTES", [b"\xff"])})
    assert raised.value.code == "invalid_text"
    assert raised.value.problems[0].pointer == "#/image"


@pytest.mark.parametrize("wire", generate_codec.UNSTREAMABLE)
def test_a_datatype_that_cannot_be_streamed_is_rejected(wire: str) -> None:
    with pytest.raises(TypeError, match=f"`x` is {wire}"):
        body({"x": tensor(wire, [1.0])}, model=config(BY_WIRE[wire].config))


@pytest.mark.parametrize(
    ("dims", "shape"),
    [
        *(
            ((1, 1), (1, 1)),
            ((1, -1), (1, 3)),
            ((1, -1), (1, 0)),
            ((3, 4), (3, 4)),
            ((-1, 3), (2, 3)),
            ((-1, 3), (0, 3)),
        ),
        ((2, -1, 2), (2, 5, 2)),
    ],
)
@pytest.mark.parametrize("wire", ["UINT64", "BYTES"])
def test_values_are_sent_flat_and_come_back_in_the_dims_of_the_config(
    wire: str, dims: tuple[int, ...], shape: tuple[int, ...]
) -> None:
    values = [2**64 - 1 - n if wire == "UINT64" else f"ä{n}".encode() for n in range(math.prod(shape))]
    sent = tensor(wire, values)
    model = config(BY_WIRE[wire].config, dims)
    flat = body({"x": Tensor(sent.datatype, sent.array.reshape(shape))}, model=model)["x"]
    assert not isinstance(flat, list) or not any(isinstance(each, list) for each in flat)
    back = generate_codec.tensors({"x": flat}, model)["x"]
    assert back.array.shape == shape
    assert back.array.reshape(-1).tolist() == values


def test_values_that_do_not_fit_the_dims_stay_flat() -> None:
    assert generate_codec.tensors({"x": [1, 2]}, config("TYPE_INT32", (3, -1)))["x"].array.shape == (2,)


def test_several_free_dimensions_are_rejected() -> None:
    with pytest.raises(TypeError, match=r"`x` has the dims \[-1, -1\]"):
        body({"x": Tensor(BY_WIRE["FP32"], np.zeros((1, 2), np.float32))}, model=config("TYPE_FP32", (-1, -1)))


@pytest.mark.parametrize(
    ("name", "inputs", "outputs"), [("parameters", 1, 0), ("model_name", 0, 1), ("model_version", 0, 1), ("id", 0, 0)]
)
def test_names_that_the_protocol_reserves_cannot_be_streamed(name: str, inputs: int, outputs: int) -> None:
    found = generate_codec.unstreamable(config("TYPE_INT32", name=name))
    assert (len(found.inputs), len(found.outputs)) == (inputs, outputs)


def test_a_model_with_a_tensor_id_gets_no_request_id() -> None:
    assert body({"id": tensor("INT32", [7])}, "abc", config("TYPE_INT32", name="id")) == {"id": 7}


def test_an_error_is_distinguished_from_an_output_of_that_name() -> None:
    assert generate_codec.error_text({"error": "why"}) == "why"
    assert generate_codec.error_text({"error": "an output", "model_name": "m"}) is None
    assert generate_codec.error_text({"event": "queued"}) is None


def test_members_that_are_not_outputs_are_ignored() -> None:
    event = {"x": 1, "id": "abc", "model_name": "m", "model_version": "1"}
    assert set(generate_codec.tensors(event, config("TYPE_INT32"))) == {"x"}


@pytest.mark.parametrize("value", ["x", None, {}])
def test_a_value_of_the_wrong_type_for_its_output_is_an_error(value: object) -> None:
    with pytest.raises((ValueError, TypeError, OverflowError)):
        generate_codec.tensors({"x": value}, config("TYPE_INT32"))


@pytest.mark.parametrize(
    ("empty", "text", "code"),
    [
        (True, "unexpected shape for input 'x' for model 'm'. Expected [-1], got [].", "empty_list"),
        (True, "unexpected shape for input 'y' for model 'm'. Expected [-1], got [].", "invalid_request"),
        (False, "unexpected shape for input 'x' for model 'm'. Expected [-1], got [].", "invalid_request"),
        (True, "unexpected shape for input 'x' for model 'm'. Expected [-1], got [2,2].", "invalid_request"),
    ],
)
def test_the_error_of_an_empty_list_names_its_field(*, empty: bool, text: str, code: str) -> None:
    error = InvalidRequestError(text)
    found = generate_codec.no_empty_list({"x": tensor("FP32", [] if empty else [1.0])}, error)
    assert found.code == (error.code if code == "invalid_request" else code)
    assert (found is error) == (code == "invalid_request")
    assert [each.pointer for each in found.problems] == (["#/x"] if code == "empty_list" else [])
