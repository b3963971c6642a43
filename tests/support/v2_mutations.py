# SPDX-License-Identifier: Apache-2.0
"""Mutates valid `/v2` requests, reproducibly by seed: depth, shapes, sizes, parameters, headers, chunks.

The results are whole HTTP requests as bytes, for the models of `repository`.
"""

import gzip
import json
import random
import re
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

from support import mutations, odd_repository
from support.serving import COUNT_APP, ECHO_APP

ODD_MODELS = ("variable", "all-optional", "batched", "texts", "floats", "integers")
NUMBERS: tuple[Any, ...] = (
    0, 1, 2, 3, 4, 7, 8, 9, 16, 100, 10_000, 2**31 - 1, 2**31, 2**32, 2**32 + 1, 2**40, 2**59, 2**61, 2**62, 2**63 - 1,
    2**63, 2**64 - 1, 2**64, 5 * 10**8, -1, -(2**31), -(2**63), 10**30, 1.5, 1e308, True, None, "1",
    "", [], {}, [1], [[2]],
)  # fmt: skip
DATATYPES: tuple[Any, ...] = (
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BF16",
    "BYTES", "STRING", "TYPE_FP32", "bytes", "", "BYTES\x00", "X" * 3000, None, 5, [], {},
)  # fmt: skip
ITEM_SIZES = {
    "BOOL": 1,
    "UINT8": 1,
    "INT8": 1,
    "UINT16": 2,
    "INT16": 2,
    "FP16": 2,
    "BF16": 2,
    "UINT64": 8,
    "INT64": 8,
    "FP64": 8,
}
PARAMETERS = (
    "sequence_id", "sequence_start", "sequence_end", "priority", "timeout", "binary_data_output", "binary_data_size",
    "binary_data", "classification", "shared_memory_region", "shared_memory_byte_size", "shared_memory_offset",
    "headers", "triton_x", "", "x",
)  # fmt: skip
HEADER_VALUES = {
    "Accept-Encoding": (
        "gzip", "deflate", "identity", "gzip;q=0.5, deflate;q=0.3", "gzip;q=1e999", "gzip;q=", "gzip;q=-1", "*;q=0",
        "gzip;q=1.", ",,", "", "br", "x" * 300, "gzip" + ",gzip" * 40, "gzip; q=1", "q=1",
    ),
    "Inference-Header-Content-Length": ("0", "1", "-1", "12abc", "", "99999", "4294967296", "9" * 30, "+5", "0x10"),
    "Content-Type": ("application/json", "application/octet-stream", "text/plain", "", "x" * 2000),
    "Content-Encoding": ("gzip", "deflate", "identity", "br", "gzip, gzip", ""),
    "Accept": ("text/event-stream", "*/*", "", "x" * 2000),
    "Endpoint-Load-Metrics-Format": ("text", "json", "x", ""),
    "triton_grpc_error": ("true", "1", "x"),
    "traceparent": ("00-" + "a" * 32 + "-" + "b" * 16 + "-01", "x", "00-" + "0" * 32 + "-" + "0" * 16 + "-00"),
    "Expect": ("100-continue",),
    "Connection": ("close", "Upgrade, HTTP2-Settings", "content-length"),
    "Upgrade": ("h2c", "websocket"),
    "X-Request-ID": ("abc", "x" * 300),
    "User-Agent": ("x",),
}  # fmt: skip
DEPTHS = (2, 20, 90, 99, 100, 101, 500, 3_000, 30_000, 110_000)
QUERIES = ("", "", "", "", "?", "?a=b", "?%00", "?" + "&" * 200, "?a=%zz&b")
VERSIONS = (
    "",
    "",
    "",
    "",
    "/versions/1",
    "/versions/2",
    "/versions/0",
    "/versions/99999999999999999999",
    "/versions/-1",
)
_NEST = re.compile(rb'"<nested (\d{1,6}) (\d)>"')
Tensor = dict[str, Any]


def repository(folder: Path) -> Path:
    """Make a model repository: BYTES and numbers, fixed and free dims, batches, optional inputs, a decoupled model."""
    for name in ODD_MODELS:
        odd_repository.add_model(folder, name)
    shutil.copytree(ECHO_APP / "models" / "echo", folder / "echo")
    shutil.copytree(COUNT_APP / "models" / "count_stream", folder / "count_stream")
    return folder


def _tensor(name: str, datatype: str, shape: list[int], data: list[Any]) -> Tensor:
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


def valid_inputs(chance: random.Random) -> tuple[str, list[Tensor]]:
    """A model and valid inputs for it."""
    match chance.randrange(8):
        case 0:
            return "variable", [_tensor("free", "FP32", [2, 3], [0.5] * 6)]
        case 1:
            return "variable", [
                _tensor("free", "FP32", [0, 3], []),
                _tensor("pixels", "UINT8", [2, 2, 3], [1] * 12),
            ]
        case 2:
            rows = chance.choice((1, 2))
            return "all-optional", [
                _tensor("a", "INT32", [rows, 1], [1] * rows),
                _tensor("b", "BYTES", [rows, 1], ["b"] * rows),
                _tensor("c", "BOOL", [rows, 1], [True] * rows),
            ]
        case 3:
            return "batched", [_tensor("x", "FP32", [1, 2], [1.5, 2]), _tensor("word", "BYTES", [1, 1], ["ä"])]
        case 4:
            return "texts", [
                _tensor("one", "BYTES", [1], ["a"]),
                _tensor("many", "BYTES", [3], ["a", "", "b"]),
                _tensor("grid", "BYTES", [2, 1], [["c"], ["d"]]),
                _tensor("flags", "BOOL", [2], [True, False]),
            ]
        case 5:
            return "floats", [_tensor("FP32", "FP32", [2], [1, 2]), _tensor("FP64", "FP64", [1], [1e300])]
        case 6:
            kind = chance.choice(("UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"))
            return "integers", [_tensor(kind, kind, [4, 2], [1, 2] * 4)]
        case _:
            rows = chance.randrange(1, 9)
            return "echo", [_tensor("text", "BYTES", [rows, 1], ["x" * chance.choice((0, 1, 3_000))] * rows)]


def _flat(data: Any) -> list[Any]:
    return [each for one in data for each in _flat(one)] if isinstance(data, list) else [data]


def _packed(tensor: Tensor) -> bytes:
    """The bytes of a valid tensor: numbers as zeros, since no value matters."""
    values = _flat(tensor["data"])
    if tensor["datatype"] == "BYTES":
        texts = [str(each).encode() for each in values]
        return b"".join(struct.pack("<I", len(each)) + each for each in texts)
    return bytes(ITEM_SIZES.get(tensor["datatype"], 4) * len(values))


def _as_binary(chance: random.Random, inputs: list[Tensor]) -> bytes:
    """Move the data of some inputs after the JSON."""
    parts = []
    for tensor in inputs:
        if chance.random() < 0.7:
            data = _packed(tensor)
            del tensor["data"]
            tensor["parameters"] = {"binary_data_size": len(data)}
            parts.append(data)
    return b"".join(parts)


def _nested(chance: random.Random) -> Any:
    """A placeholder for a deep value, which `json.dumps` cannot write."""
    return f"<nested {chance.choice(DEPTHS)} {chance.randrange(4)}>"


def _with_nests(text: bytes) -> bytes:
    def nest(match: re.Match[bytes]) -> bytes:
        depth, form = int(match[1]), int(match[2])
        opening, closing = ((b"[", b"]"), (b'{"a":', b"}"))[form % 2]
        return opening * depth + (b"1" + closing * depth if form < 2 else b"")

    return _NEST.sub(nest, text)


def _mutate_tensor(chance: random.Random, tensor: Tensor) -> None:
    match chance.randrange(9):
        case 0 | 1:
            declared = tensor.get("shape")
            shape = list(declared) if isinstance(declared, list) else [1]
            for _ in range(chance.choice((1, 1, 2))):
                at = chance.randrange(len(shape) + 1)
                shape[at : at + chance.randrange(2)] = [chance.choice(NUMBERS)] * chance.choice((0, 1, 1, 1, 40))
            tensor["shape"] = shape
        case 2:
            tensor["shape"] = chance.choice((None, "x", {}, 5, [[1]], [1] * 2000, _nested(chance)))
        case 3:
            tensor["datatype"] = chance.choice(DATATYPES)
        case 4:
            tensor["name"] = chance.choice(("", "x", "text\x00", "n" * 3000, None, 5, "free", "text"))
        case 5:
            tensor["data"] = chance.choice(
                (
                    [],
                    [None],
                    ["x"],
                    [[1, [2]]],
                    [1e400, -1],
                    {},
                    "x",
                    [2**70],
                    [float("nan")],
                    _nested(chance),
                    [[]] * 900,
                )
            )
        case 6:
            tensor.pop(chance.choice(("name", "shape", "datatype", "data", "parameters")), None)
        case _:
            parameters = tensor.get("parameters")
            parameters = dict(parameters) if isinstance(parameters, dict) else {}
            parameters[chance.choice(PARAMETERS)] = chance.choice((*NUMBERS, _nested(chance)))
            tensor["parameters"] = chance.choice((parameters, parameters, parameters, [], 5, "x"))


def _mutate_request(chance: random.Random, members: dict[str, Any]) -> None:
    match chance.randrange(7):
        case 6:  # many tensors, each of as many elements as the body has bytes
            one = {"shape": [chance.choice((100, 10_000, 10**8))], "datatype": "FP64", "data": [1.0]}
            members["inputs"] = [{"name": f"n{number}", **one} for number in range(chance.choice((2, 90, 700)))]
        case 0:
            members["outputs"] = [
                {"name": name, "parameters": {chance.choice(PARAMETERS): chance.choice(NUMBERS)}}
                for name in chance.choices(
                    ("text", "free", "x", "INT8", "FP32", "one", "flags", "nope", "text\x00"), k=2
                )
            ]
        case 1:
            members["outputs"] = chance.choice(
                (None, [], {}, [1], [{}], "x", [{"name": "text"}] * 700, _nested(chance))
            )
        case 2:
            members["parameters"] = {
                chance.choice(PARAMETERS): chance.choice((*NUMBERS, _nested(chance))) for _ in range(2)
            }
        case 3:
            members["parameters"] = chance.choice((None, [], 5, "x", {str(n): n for n in range(900)}, _nested(chance)))
        case 4:
            members["id"] = chance.choice((*NUMBERS, "x" * 3000, "a\x00b", "\r\nX: y", _nested(chance)))
        case _:
            members[chance.choice(("inputs", "x", "", "a\x00"))] = chance.choice((*NUMBERS, _nested(chance)))


def _infer(chance: random.Random) -> tuple[str, bytes, dict[str, str]]:
    model, inputs = valid_inputs(chance)
    headers: dict[str, str] = {}
    if chance.random() < 0.04:
        return (
            f"/v2/models/{model}/infer",
            chance.randbytes(chance.choice((0, 1, 8, 24, 5000))),
            {"Inference-Header-Content-Length": "0"},
        )
    data = _as_binary(chance, inputs) if chance.random() < 0.5 else b""
    members: dict[str, Any] = {"inputs": inputs}
    for _ in range(chance.choice((0, 1, 1, 1, 2))):
        if chance.random() < 0.7:
            _mutate_tensor(chance, chance.choice(inputs))
        else:
            _mutate_request(chance, members)
    if chance.random() < 0.1:
        members = mutations.value(chance, members)
    text = _json(chance, members)
    if data and chance.random() < 0.1:
        data = mutations.bytes_of(chance, data)
    if data or chance.random() < 0.2:
        headers["Inference-Header-Content-Length"] = str(len(text))
    return f"/v2/models/{model}/infer", text + data, headers


def _json(chance: random.Random, members: Any) -> bytes:
    text = json.dumps(members, ensure_ascii=chance.random() < 0.5, indent=chance.choice((None, None, 1)))
    if isinstance(members, dict) and members and chance.random() < 0.03:  # a member twice
        name = chance.choice(list(members))
        text = text[: text.rindex("}")] + f", {json.dumps(name)}: 1}}"
    body = _with_nests(text.encode("utf-8", "surrogatepass"))
    return mutations.bytes_of(chance, body) if chance.random() < 0.08 else body


def _generate(chance: random.Random) -> tuple[str, bytes, dict[str, str]]:
    members: dict[str, Any] = {"text": "echo a"}
    if chance.random() < 0.8:
        name = chance.choice(("text", "seed", "scales", "describe", "id", "parameters", "x", "sequence_id", "timeout"))
        members[name] = chance.choice((*NUMBERS, ["a"], ["a", "b"], [1.0, 2.0], "x" * 3000, [[]], _nested(chance)))
    if chance.random() < 0.1:
        members = mutations.value(chance, members)
    path = chance.choice(
        (
            "count_stream/generate_stream",
            "count_stream/generate",
            "echo/generate",
            "texts/generate",
            "floats/generate_stream",
        )
    )
    return f"/v2/models/{path}", _json(chance, members), {}


def _poll(chance: random.Random) -> tuple[str, bytes, dict[str, str]]:
    path = chance.choice(
        ("/v2/repository/index", "/v2/models/echo/config", "/v2/health/ready", "/v2/models/texts", "/v2")
    )
    return path, _json(chance, {"ready": chance.choice((*NUMBERS, _nested(chance)))}), {}


def _framed(chance: random.Random, body: bytes) -> tuple[bytes, bytes]:
    """Headers for the body's length, and the body in that form."""
    if chance.random() < 0.8:
        return b"Content-Length: %d\r\n" % len(body), body
    size = chance.choice((1, 1, 7, 100, 5000)) if len(body) < 20_000 else 5000
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    joined = b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in chunks)
    return b"Transfer-Encoding: chunked\r\n", joined + b"0\r\n\r\n"


def _compressed(chance: random.Random, body: bytes) -> tuple[str, bytes]:
    if chance.random() < 0.5:
        return "gzip", gzip.compress(body, 1, mtime=0)
    return "deflate", zlib.compress(body, 1)


def request(chance: random.Random) -> bytes:
    """A whole HTTP request. About a tenth of them are valid."""
    kind = chance.choices((_infer, _generate, _poll), weights=(75, 20, 5))[0]
    path, body, headers = kind(chance)
    method = "GET" if kind is _poll and path != "/v2/repository/index" else "POST"
    if chance.random() < 0.05:
        for suffix in ("/infer", "/generate"):
            path = path.replace(suffix, chance.choice(VERSIONS) + suffix)
    if chance.random() < 0.02:
        path = path.replace("models/", chance.choice(("models/%65", "models/nope", "models/..%2f", "models/%00")), 1)
    path += chance.choice(QUERIES) if chance.random() < 0.05 else ""
    if chance.random() < 0.1:
        name = chance.choice(list(HEADER_VALUES))
        headers[name] = chance.choice(HEADER_VALUES[name])
    if method == "GET" and chance.random() < 0.8:
        body = b""
    if chance.random() < 0.05:
        headers["Content-Encoding"], body = _compressed(chance, body)
    length, framed = _framed(chance, body)
    lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\n{''.join(lines)}".encode() + length + b"\r\n"
    if chance.random() < 0.02:
        head = mutations.bytes_of(chance, head)
    return head + framed
