# SPDX-License-Identifier: Apache-2.0
"""The bodies of `/infer`, tensors in binary: a JSON header, then the bytes of each tensor.

tritonclient writes and reads the same, in a fifth of all the time that a small request takes, and copies a large one
four times; the tests hold this against it.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from fastapi_triton.datatypes import BY_WIRE, Datatype
from fastapi_triton.triton.client import Tensor, Tensors

_LENGTH = struct.Struct("<I")


def request_body(
    inputs: Tensors, outputs: Sequence[str], request_id: str, queue_timeout_us: int = 0
) -> tuple[list[bytes], int]:
    """The body in pieces, and the length of the first, its JSON header. No outputs named means all of them.

    `queue_timeout_us` is Triton's `timeout`: how long it may wait in the dynamic batcher's queue; 0: the model's own.

    Raises:
        TypeError: an array is not of its datatype.
    """
    pieces, described = [b""], []
    for name, tensor in inputs.items():
        data = _serialize(name, tensor)
        described.append(
            {
                "name": name,
                "shape": tensor.array.shape,
                "datatype": tensor.datatype.wire,
                "parameters": {"binary_data_size": sum(map(len, data))},
            }
        )
        pieces += data
    header: dict[str, Any] = {"id": request_id} if request_id else {}
    header["inputs"] = described
    if outputs:
        header["outputs"] = [{"name": name, "parameters": {"binary_data": True}} for name in outputs]
    else:
        header["parameters"] = {"binary_data_output": True}
    if queue_timeout_us:
        header.setdefault("parameters", {})["timeout"] = queue_timeout_us
    pieces[0] = orjson.dumps(header)
    return pieces, len(pieces[0])


def answer_tensors(body: memoryview, header_length: int | None) -> dict[str, Tensor]:
    """The output tensors of an answer; without a header length all of it is JSON. Arrays may share its memory.

    Raises:
        ValueError, KeyError, TypeError, struct.error: it cannot be read.
    """
    offset = len(body) if header_length is None else header_length
    tensors: dict[str, Tensor] = {}
    for output in orjson.loads(body[:offset])["outputs"]:
        datatype = BY_WIRE[output["datatype"]]
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            array = _from_json(output["data"], datatype)
        else:
            array = _deserialize(body[offset : offset + size], datatype)
            offset += size
        tensors[output["name"]] = Tensor(datatype, array.reshape(output["shape"]))
    return tensors


def _serialize(name: str, tensor: Tensor) -> list[bytes]:
    array, datatype = tensor.array, tensor.datatype
    if array.dtype != datatype.numpy:
        raise TypeError(f"`{name}` is {datatype.wire}, but its array is of {array.dtype}")
    if datatype.kind != "bytes":
        return [array.tobytes()]
    pieces: list[bytes] = []
    for element in (array.item(),) if array.size == 1 else array.reshape(-1).tolist():
        pieces += (_LENGTH.pack(len(element)), element)
    return pieces


def _deserialize(data: memoryview, datatype: Datatype) -> npt.NDArray[Any]:
    if datatype.kind != "bytes":
        return np.frombuffer(data, dtype=datatype.numpy)
    elements, offset = [], 0
    while offset < len(data):
        start = offset + _LENGTH.size
        offset = start + _LENGTH.unpack_from(data, offset)[0]
        elements.append(bytes(data[start:offset]))
    if offset > len(data):
        raise ValueError("an element of BYTES is cut off")
    return _objects(elements)


def _from_json(values: Sequence[Any], datatype: Datatype) -> npt.NDArray[Any]:
    if datatype.kind != "bytes":
        return np.array(values, dtype=datatype.numpy)
    return _objects([value.encode() for value in values])


def _objects(elements: Sequence[bytes]) -> npt.NDArray[np.object_]:
    array = np.empty(len(elements), dtype=np.object_)
    array[:] = elements
    return array


def header_length(headers: Mapping[bytes, bytes]) -> int | None:
    """Where Triton says how much of its answer is JSON."""
    length = headers.get(b"inference-header-content-length")
    return None if length is None else int(length)
