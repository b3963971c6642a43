# SPDX-License-Identifier: Apache-2.0
"""Requests of `/v2` for one model, and a scripted Triton that has the model's config."""

import json
from typing import Any

from support.scripted_triton import ScriptedTriton, Upstream

CONFIG = {
    "name": "echo",
    "max_batch_size": 8,
    "input": [
        {"name": "text", "data_type": "TYPE_STRING", "dims": [1], "optional": True},
        {"name": "x", "data_type": "TYPE_FP32", "dims": [-1, -1], "optional": True},
        {"name": "y", "data_type": "TYPE_INT32", "dims": [2], "optional": True},
    ],
    "output": [
        {"name": "text", "data_type": "TYPE_STRING", "dims": [1]},
        {"name": "x", "data_type": "TYPE_FP32", "dims": [-1, -1]},
        {"name": "y", "data_type": "TYPE_INT32", "dims": [2]},
        {"name": "half", "data_type": "TYPE_FP16", "dims": [2]},
    ],
}
TEXT = {"name": "text", "shape": [1, 1], "datatype": "BYTES", "data": ["a"]}
X = {"name": "x", "shape": [1, 1, 1], "datatype": "FP32", "data": [1.0]}
Y = {"name": "y", "shape": [1, 2], "datatype": "INT32", "data": [1, 2]}


async def respond_with_config(upstream: Upstream, triton: ScriptedTriton) -> None:
    while True:
        head, body = await upstream.request()
        if head.startswith(b"GET /v2/models/echo/config "):
            await upstream.respond(json.dumps(CONFIG).encode())
        else:
            triton.requests.append((head, body))
            await upstream.respond()


def body_of(*inputs: Any, **members: Any) -> bytes:
    return json.dumps({"inputs": inputs, **members}).encode()


def binary(shape: list[int], size: Any, *, data: bytes = b"abcd", **members: Any) -> tuple[bytes, dict[str, str]]:
    tensor = {"name": "x", "shape": shape, "datatype": "FP32", "parameters": {"binary_data_size": size}, **members}
    head = body_of(tensor)
    return head + data, {"Inference-Header-Content-Length": str(len(head))}
