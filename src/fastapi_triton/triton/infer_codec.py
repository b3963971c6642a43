# SPDX-License-Identifier: Apache-2.0
"""The bodies of `/infer` with binary tensors: a JSON header, then the bytes of each tensor.

tritonclient does the same, but it takes a fifth of a small request's time and copies a large request four times. The
tests compare this module with it.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from fastapi_triton.triton.client import NO_EXTENSIONS, Extensions, Tensors
from fastapi_triton.triton.datatypes import BY_WIRE, Datatype
from fastapi_triton.triton.tensor import Tensor

_LENGTH = struct.Struct("<I")
# One number of each datatype; `struct` has no BF16.
_NUMBERS = {
    wire: struct.Struct("<" + code)
    for wire, code in (
        *(("BOOL", "?"), ("UINT8", "B"), ("UINT16", "H"), ("UINT32", "I"), ("UINT64", "Q")),
        *(("INT8", "b"), ("INT16", "h"), ("INT32", "i"), ("INT64", "q"), ("FP16", "e"), ("FP32", "f"), ("FP64", "d")),
    )
}


def request_body(
    inputs: Tensors,
    outputs: Sequence[str],
    request_id: str,
    queue_timeout_us: int = 0,
    extensions: Extensions = NO_EXTENSIONS,
) -> tuple[list[bytes | memoryview], int]:
    """The body in pieces, and the length of the first piece, its JSON header. Without outputs, all are requested.

    `queue_timeout_us` is Triton's `timeout`, the longest wait in the dynamic batcher's queue; 0: the model's default.

    Raises:
        TypeError: an array does not have its tensor's datatype.
    """
    pieces: list[bytes | memoryview] = [b""]
    described = []
    for name, tensor in inputs.items():
        data = serialize(name, tensor)
        described.append(
            {
                "name": name,
                "shape": tensor.shape,
                "datatype": tensor.datatype.wire,
                "parameters": {"binary_data_size": sum(map(len, data))},
            }
        )
        pieces += data
    header: dict[str, Any] = {"id": request_id} if request_id else {}
    header["inputs"] = described
    if outputs:
        header["outputs"] = [
            {"name": name, "parameters": _output_parameters(name, extensions.classes)} for name in outputs
        ]
    else:
        header["parameters"] = {"binary_data_output": True}
    if extensions.parameters:
        header["parameters"] = {**header.get("parameters", {}), **extensions.parameters}
    if queue_timeout_us:
        header.setdefault("parameters", {})["timeout"] = queue_timeout_us
    pieces[0] = orjson.dumps(header)
    return pieces, len(pieces[0])


def _output_parameters(name: str, classes: Mapping[str, int]) -> dict[str, int | bool]:
    binary: dict[str, int | bool] = {"binary_data": True}
    return binary | {"classification": classes[name]} if name in classes else binary


def response_tensors(body: memoryview, header_length: int | None) -> dict[str, Tensor]:
    """The output tensors of a response. Without a header length all of it is JSON. Arrays may share its memory.

    Raises:
        ValueError, KeyError, TypeError, struct.error: the response cannot be read.
    """
    offset = len(body) if header_length is None else header_length
    tensors: dict[str, Tensor] = {}
    for output in orjson.loads(body[:offset])["outputs"]:
        datatype = BY_WIRE[output["datatype"]]
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            tensors[output["name"]] = Tensor(datatype, _from_json(output["data"], datatype).reshape(output["shape"]))
        else:
            tensors[output["name"]] = read(body[offset : offset + size], datatype, output["shape"])
            offset += size
    return tensors


def serialize(name: str, tensor: Tensor) -> list[bytes | memoryview]:
    """A tensor's values in Triton's binary protocol. `name` is for errors.

    Raises:
        TypeError: the array does not have the tensor's datatype.
    """
    value, datatype = tensor.value, tensor.datatype
    if isinstance(value, bytes | memoryview):
        return [_LENGTH.pack(len(value)), value]
    if value is not None and (number := _NUMBERS.get(datatype.wire)) is not None:
        return [number.pack(value)]
    array = tensor.array
    if array.dtype != datatype.numpy:
        raise TypeError(f"`{name}` is {datatype.wire}, but its array has the dtype {array.dtype}")
    if datatype.kind != "bytes":
        return [array.tobytes()]
    pieces: list[bytes | memoryview] = []
    for element in array.reshape(-1).tolist():
        pieces += (_LENGTH.pack(len(element)), element)
    return pieces


def read(data: memoryview, datatype: Datatype, shape: Sequence[int]) -> Tensor:
    """A tensor from its values in Triton's binary protocol. Its array may share their memory.

    Raises:
        ValueError, struct.error: they are not such values, or do not fit the shape.
    """
    if datatype.kind == "bytes":
        start = _LENGTH.size
        if len(shape) == shape.count(1) and len(data) == start + _LENGTH.unpack_from(data)[0]:
            return Tensor.of_one(datatype, data[start:], shape)
        return Tensor(datatype, _objects(_elements(data)).reshape(shape))
    return Tensor(datatype, np.frombuffer(data, dtype=datatype.numpy).reshape(shape))


def _elements(data: memoryview) -> list[bytes]:
    elements, offset = [], 0
    while offset < len(data):
        start = offset + _LENGTH.size
        offset = start + _LENGTH.unpack_from(data, offset)[0]
        elements.append(bytes(data[start:offset]))
    if offset > len(data):
        raise ValueError("an element of BYTES is truncated")
    return elements


def _from_json(values: Sequence[Any], datatype: Datatype) -> npt.NDArray[Any]:
    if datatype.kind != "bytes":
        return np.array(values, dtype=datatype.numpy)
    return _objects([value.encode() for value in values])


def _objects(elements: Sequence[bytes]) -> npt.NDArray[np.object_]:
    array = np.empty(len(elements), dtype=np.object_)
    array[:] = elements
    return array


def header_length(headers: Mapping[bytes, bytes]) -> int | None:
    """The length of the JSON in Triton's response, from its header."""
    length = headers.get(b"inference-header-content-length")
    return None if length is None else int(length)
