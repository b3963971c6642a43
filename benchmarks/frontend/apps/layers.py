# SPDX-License-Identifier: Apache-2.0
"""The scribble endpoint with its first `LAYERS` layers, to measure the cost of each.

1: pydantic, and one exchange with Triton over `triton/transport/pool.py`, with handwritten bodies. 2: checks the
picture and rejects unknown fields. 3: validates the response. 4: converts tensors according to the contract. 5: the
endpoint itself. The app of `ours.py` adds the middleware.
"""

import os
import struct

import orjson
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from benchmarks.frontend.apps.ours import app as whole_app
from fastapi_triton.endpoints import responses
from fastapi_triton.endpoints.declared import tensors
from fastapi_triton.endpoints.fields import tensor_values
from fastapi_triton.endpoints.request_body import validation
from fastapi_triton.triton.transport.pool import ConnectionPool
from main import ScribbleRequest

LAYERS = int(os.environ.get("LAYERS", "1"))
_LENGTH = struct.Struct("<I")
_endpoint = whole_app.endpoints[0]
connections = ConnectionPool(str(whole_app.settings.triton_url), connect_timeout_s=5)


def read(body: bytes) -> BaseModel:
    if LAYERS < 2:
        return ScribbleRequest.model_validate_json(body)
    return validation.from_json(body, _endpoint.request_model, _endpoint.services.image_limits)


async def call_triton(request: BaseModel) -> dict[str, object]:
    """The fields of the response."""
    if LAYERS < 4:
        return {"generated_image": str(await exchange(request), "utf-8")}
    config = (await _endpoint.declaration.configs()).target
    inputs = tensors.from_fields(tensor_values(request), config)
    outputs = await _endpoint.services.triton.infer(config.name, inputs, outputs=["generated_image"])
    return tensors.to_fields(outputs, config)


async def exchange(request: BaseModel) -> memoryview:
    """The picture in Triton's response."""
    values = request.__dict__
    data = [(name, values[name].encode()) for name in ("prompt", "image")]
    inputs = [_described(name, "BYTES", _LENGTH.size + len(value)) for name, value in data]
    inputs.append(_described("conditioning_scale", "FP32", 4))
    outputs = [{"name": "generated_image", "parameters": {"binary_data": True}}]
    pieces = [orjson.dumps({"inputs": inputs, "outputs": outputs})]
    for _, value in data:
        pieces += (_LENGTH.pack(len(value)), value)
    pieces.append(struct.pack("<f", values["conditioning_scale"]))
    head = (
        b"POST /v2/models/scribble_echo/infer HTTP/1.1\r\nhost: triton\r\ninference-header-content-length: %d\r\n"
        b"content-length: %d\r\n\r\n" % (len(pieces[0]), sum(map(len, pieces)))
    )
    response, body = await connections.request([head, *pieces], timeout_s=60)
    start = int(dict(response.headers)[b"inference-header-content-length"])
    return body[start + _LENGTH.size :]


def _described(name: str, datatype: str, size: int) -> dict[str, object]:
    return {"name": name, "shape": [1, 1], "datatype": datatype, "parameters": {"binary_data_size": size}}


def written(fields: dict[str, object]) -> bytes:
    if LAYERS < 3:
        return b'{"generated_image":"' + str(fields["generated_image"]).encode() + b'"}'
    return responses.to_json(responses.read(_endpoint.response_model, fields, model=_endpoint.model))


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        await whole_app(scope, receive, send)
    elif LAYERS < 5:
        pieces, more_body = [], True
        while more_body:
            message = await receive()
            pieces.append(message["body"])
            more_body = message["more_body"]
        fields = await call_triton(read(b"".join(pieces)))
        await responses.JSONBytesResponse(written(fields))(scope, receive, send)
    else:
        await (await _endpoint.respond(scope, receive))(scope, receive, send)
