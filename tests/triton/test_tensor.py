# SPDX-License-Identifier: Apache-2.0
"""A tensor made from one value equals the one made from an array, in every datatype."""

from typing import Any

import numpy as np
import orjson
import pytest
from tritonclient.http import InferenceServerClient, InferInput

from fastapi_triton.triton.datatypes import BY_WIRE, DATATYPES, Datatype
from fastapi_triton.triton.infer_codec import request_body, response_tensors
from fastapi_triton.triton.tensor import Tensor

# Rounded by every float datatype; small enough for all of them.
VALUES: dict[str, list[Any]] = {
    "bool": [True, False],
    "float": [0.1, -0.0, 1 / 3, 64_999.0, 1e-7],
    "bytes": [b"", b"a\x00\x00", "ä🏠".encode(), b"x" * 70_000],
}


def values(datatype: Datatype) -> list[Any]:
    return list(datatype.integer_range) if datatype.kind == "integer" else VALUES[datatype.kind]


def of_array(datatype: Datatype, value: Any) -> Tensor:
    array = np.empty((1, 1), dtype=datatype.numpy)
    array.fill(value)
    return Tensor(datatype, array)


CASES = [pytest.param(each, value, id=f"{each.wire}-{value!r:.12}") for each in DATATYPES for value in values(each)]


@pytest.mark.parametrize(("datatype", "value"), CASES)
def test_one_value_is_encoded_as_tritonclient_encodes_its_array(datatype: Datatype, value: Any) -> None:
    pieces, length = request_body({"x": Tensor.of_one(datatype, value, (1, 1))}, [], "")
    body = b"".join(pieces)
    given = InferInput("x", [1, 1], datatype.wire)
    given.set_data_from_numpy(of_array(datatype, value).array, binary_data=True)
    theirs, their_length = InferenceServerClient.generate_request_body([given])
    assert orjson.loads(body[:length])["inputs"] == orjson.loads(theirs[: int(their_length)])["inputs"]
    assert body[length:] == theirs[int(their_length) :]


@pytest.mark.parametrize(("datatype", "value"), CASES)
def test_the_array_has_the_value(datatype: Datatype, value: Any) -> None:
    one, whole = Tensor.of_one(datatype, value, (1, 1)), of_array(datatype, value)
    assert one.array.dtype == datatype.numpy
    assert one.array.shape == (1, 1)
    assert one.array.tolist() == whole.array.tolist()
    assert (one.size, one.item()) == (1, value)


def test_a_text_of_a_response_is_not_copied_until_its_array_is_read() -> None:
    pieces, _ = request_body({"text": Tensor.of_one(BY_WIRE["BYTES"], b"house", (1,))}, [], "")
    header = orjson.dumps({"outputs": orjson.loads(pieces[0])["inputs"]})
    body = memoryview(bytearray(header + b"".join(pieces[1:])))
    read = response_tensors(body, len(header))["text"]
    body[-5:] = b"mouse"
    assert bytes(read.item()) == b"mouse"
    assert read.array.tolist() == [b"mouse"]
    assert isinstance(read.array[0], bytes)


def test_repr_does_not_contain_the_value() -> None:
    assert repr(Tensor.of_one(BY_WIRE["BYTES"], b"my secret", (1, 1))) == "Tensor(BYTES, [1, 1])"


def test_one_value_with_a_shape_of_several_is_rejected() -> None:
    with pytest.raises(ValueError, match=r"cannot have the shape \[2, 1\]"):
        Tensor.of_one(BY_WIRE["FP32"], 0.5, (2, 1))
