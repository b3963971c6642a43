# SPDX-License-Identifier: Apache-2.0
"""The bodies of `/infer`, compared with those of tritonclient."""

import struct
from typing import Any

import numpy as np
import orjson
import pytest
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

from fastapi_triton.triton.datatypes import BY_WIRE, DATATYPES
from fastapi_triton.triton.infer_codec import header_length, request_body, response_tensors
from fastapi_triton.triton.tensor import Tensor

NUMBERS = [datatype for datatype in DATATYPES if datatype.kind != "bytes" and datatype.wire != "BF16"]


def texts(*values: bytes, shape: tuple[int, ...]) -> Tensor:
    array = np.empty(len(values), dtype=np.object_)
    array[:] = values
    return Tensor(BY_WIRE["BYTES"], array.reshape(shape))


def tensors() -> dict[str, Tensor]:
    """Tensors of every datatype with two dimensions; texts that are empty, not ASCII, or contain NULs."""
    made = {
        each.wire: Tensor(each, np.array([[0, 1, 1], [1, 0, 1]]).astype(each.numpy).T)  # not contiguous
        for each in NUMBERS
    }
    return {
        **made,
        "one": texts(b"a\x00\x00", shape=(1, 1)),
        "many": texts(b"", "ä🏠".encode(), bytes(range(256)), b"x" * 70_000, shape=(2, 2)),
        "none": texts(shape=(0, 1)),
    }


def written_by_tritonclient(inputs: dict[str, Tensor], outputs: list[str], request_id: str) -> tuple[bytes, int]:
    given = []
    for name, tensor in inputs.items():
        given.append(InferInput(name, list(tensor.array.shape), tensor.datatype.wire))
        given[-1].set_data_from_numpy(tensor.array, binary_data=True)
    wanted = [InferRequestedOutput(name, binary_data=True) for name in outputs] or None
    body, length = InferenceServerClient.generate_request_body(given, outputs=wanted, request_id=request_id)
    return body, int(length)


@pytest.mark.parametrize("outputs", [["a", "b"], []])
def test_a_request_equals_that_of_tritonclient(outputs: list[str]) -> None:
    pieces, length = request_body(tensors(), outputs, "abc")
    body = b"".join(pieces)
    theirs, their_length = written_by_tritonclient(tensors(), outputs, "abc")
    assert orjson.loads(body[:length]) == orjson.loads(theirs[:their_length])
    assert body[length:] == theirs[their_length:]


def test_a_request_without_id_has_no_id_field() -> None:
    pieces, _ = request_body({"one": texts(b"a", shape=(1,))}, [], "")
    assert "id" not in orjson.loads(pieces[0])


def test_an_array_of_the_wrong_dtype_is_rejected() -> None:
    with pytest.raises(TypeError, match="`x` is FP32, but its array has the dtype float64"):
        request_body({"x": Tensor(BY_WIRE["FP32"], np.zeros(1))}, [], "")


def response_with(outputs: dict[str, Tensor]) -> tuple[memoryview, int]:
    """A response with these tensors, in the format of a request's inputs."""
    pieces, _ = request_body(outputs, [], "")
    header = orjson.dumps({"outputs": orjson.loads(pieces[0])["inputs"]})
    return memoryview(bytearray(header + b"".join(pieces[1:]))), len(header)


def test_encoded_tensors_decode_to_the_same_values() -> None:
    sent = tensors()
    read = response_tensors(*response_with(sent))
    assert list(read) == list(sent)
    for name, tensor in sent.items():
        assert read[name].datatype is tensor.datatype
        assert read[name].array.dtype == tensor.array.dtype
        assert read[name].array.shape == tensor.array.shape
        assert read[name].array.tolist() == tensor.array.tolist()


def test_outputs_in_json_are_decoded() -> None:
    response: dict[str, Any] = {
        "outputs": [
            {"name": "text", "datatype": "BYTES", "shape": [1, 2], "data": ["ä", ""]},
            {"name": "number", "datatype": "INT8", "shape": [2], "data": [-1, 2]},
        ]
    }
    read = response_tensors(memoryview(orjson.dumps(response)), None)
    assert read["text"].array.tolist() == [["ä".encode(), b""]]
    assert read["number"].array.tolist() == [-1, 2]


@pytest.mark.parametrize("cut", [1, 3, 5])
def test_a_truncated_response_is_an_error(cut: int) -> None:
    body, length = response_with({"one": texts(b"abc", shape=(1,))})
    with pytest.raises((ValueError, struct.error)):
        response_tensors(body[:-cut], length)


def test_the_header_length_is_read_from_its_header() -> None:
    assert header_length({b"inference-header-content-length": b"12"}) == 12
    assert header_length({}) is None
