# SPDX-License-Identifier: Apache-2.0
"""Model outputs reach the client unchanged: NaN as a string, bytes that are not UTF-8 as base64 or as an error."""

import base64
import json
import math
from contextlib import aclosing
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel, ConfigDict, Field, Json

from fastapi_triton import Base64Image, Settings, TritonFrontend
from fastapi_triton.core.errors import InferenceError
from fastapi_triton.endpoints import responses
from fastapi_triton.testing import FakeTriton
from fastapi_triton.triton.client import Tensors
from fastapi_triton.triton.datatypes import BY_WIRE
from fastapi_triton.triton.http_client import HTTPTriton
from fastapi_triton.triton.model_config import ModelConfig, TensorConfig
from fastapi_triton.triton.tensor import Tensor
from support.picture_app import client_of, triton_of
from support.scribble_app import MODEL, PATH, base64_picture, bytes_tensor
from support.scripted_stream_model import ScriptedStreamModel, app_of
from support.scripted_triton import Upstream, scripted_triton


class Scores(BaseModel):
    score: float
    scores: list[float]
    info: Json[dict[str, Any]]
    label: str | None = None
    raw: bytes | None = None


class Request(BaseModel):
    prompt: str = Field(min_length=1)


SCORES = ModelConfig(
    "scores",
    0,
    (TensorConfig("prompt", BY_WIRE["BYTES"], (1,)),),
    (
        TensorConfig("score", BY_WIRE["FP32"], (1,)),
        TensorConfig("scores", BY_WIRE["FP32"], (-1,)),
        TensorConfig("info", BY_WIRE["BYTES"], (1,)),
        TensorConfig("label", BY_WIRE["BYTES"], (1,)),
        TensorConfig("raw", BY_WIRE["BYTES"], (1,)),
    ),
)


def scores(**changed: bytes) -> dict[str, Tensor]:
    texts = {"info": b'{"loss": NaN, "big": 1e400, "none": null, "n": ' + b"9" * 30 + b"}"} | changed
    return {
        "score": Tensor(BY_WIRE["FP32"], np.array([np.nan], np.float32)),
        "scores": Tensor(BY_WIRE["FP32"], np.array([1.5, np.inf, -np.inf], np.float32)),
        **{name: Tensor.of_one(BY_WIRE["BYTES"], value, (1,)) for name, value in texts.items()},
    }


async def test_nan_is_a_string_in_every_response() -> None:
    triton = FakeTriton()

    async def respond(_: Tensors) -> dict[str, Tensor]:
        return scores()

    triton.add(SCORES, respond)
    app = TritonFrontend(triton=triton, settings=Settings(generate=True, watch_interval_s=3600))
    app.infer("/scores", model="scores", request=Request, response=Scores)
    async with client_of(app) as client:
        declared = await client.post("/scores", json={"prompt": "a"})
        generated = await client.post("/models/scores/infer", json={"prompt": "a"})
    assert declared.json() == {
        "score": "NaN",
        "scores": [1.5, "Infinity", "-Infinity"],
        "info": {"loss": "NaN", "big": "Infinity", "none": None, "n": int("9" * 30)},
    }
    assert (generated.json()["score"], generated.json()["scores"]) == ("NaN", [1.5, "Infinity", "-Infinity"])


@pytest.mark.parametrize("name", ["label", "raw"])
async def test_error_names_an_output_that_is_not_utf_8(name: str) -> None:
    triton = FakeTriton()

    async def respond(_: Tensors) -> dict[str, Tensor]:
        return scores(**{name: b"caf\xe9"})

    triton.add(SCORES, respond)
    app = TritonFrontend(triton=triton, settings=Settings(generate=True, watch_interval_s=3600))
    app.infer("/scores", model="scores", request=Request, response=Scores)
    async with client_of(app) as client:
        declared = await client.post("/scores", json={"prompt": "a"})
        generated = await client.post("/models/scores/infer", json={"prompt": "a"})
    assert (declared.status_code, declared.json()["code"]) == (502, "inference_failed")
    assert f"`{name}`" in declared.json()["detail"]
    assert "UTF-8" in declared.json()["detail"]
    assert generated.json()[name] == {"base64": base64.b64encode(b"caf\xe9").decode()}


def test_bytes_are_base64_if_the_response_model_configures_it() -> None:
    class Raw(BaseModel):
        model_config = ConfigDict(ser_json_bytes="base64")
        raw: bytes
        score: float

    assert responses.to_json(Raw(raw=b"\xff\xfe", score=math.nan)) == b'{"raw":"__4=","score":"NaN"}'


class Labels(BaseModel):
    names: list[str]
    rows: list[list[int]] | None = None
    parsed: Json[list[int]]
    any_list: list  # type: ignore[type-arg]


def test_single_value_is_wrapped_in_the_declared_list() -> None:
    response = responses.read(Labels, {"names": "a", "rows": 1, "parsed": "[1, 2]", "any_list": 3}, model="m")
    assert response.model_dump() == {"names": ["a"], "rows": [[1]], "parsed": [1, 2], "any_list": [3]}


class Drawn(BaseModel):
    """The response of a model with odd values in `info`."""

    generated_image: Base64Image
    seed: int
    info: Json[dict[str, Any]]


ODD_INFO = b'{"loss": NaN, "huge": ' + b"9" * 30 + b', "half": "\\u00e9", "none": null}'


class OddStreamModel(ScriptedStreamModel):
    async def __call__(self, inputs: Tensors) -> Any:
        async for outputs in super().__call__(inputs):
            if "generated_image" in outputs:
                outputs["info"] = bytes_tensor(ODD_INFO)
            yield outputs


async def test_odd_values_in_a_pictures_info_reach_the_client() -> None:
    expected = {"loss": "NaN", "huge": int("9" * 30), "half": "é", "none": None}
    async with client_of(app_of(triton_of(OddStreamModel()), Settings(max_in_flight=4))) as client:
        body = {"prompt": "a", "image": base64_picture()}
        plain = await client.post(PATH, json=body)
        as_file = await client.post(PATH, json=body, headers={"Accept": "image/png"})
        openai = await client.post("/v1/images/generations", json={"prompt": "a"})
        stream = await client.post("/v1/images/generations", json={"prompt": "a", "stream": True})
        a1111 = await client.post("/sdapi/v1/txt2img", json={"prompt": "a"})
    assert plain.json()["info"] == expected
    assert json.loads(as_file.headers["x-info"]) == expected
    assert openai.json()["data"][0]["info"] == expected
    assert json.loads(stream.text.split("data: ")[-1])["info"] == expected
    assert json.loads(a1111.json()["info"])["info"] == [expected]


async def test_preview_that_is_not_utf_8_is_an_error() -> None:
    stream_model = ScriptedStreamModel()
    stream_model.preview = b"\xff"
    async with client_of(app_of(triton_of(stream_model), Settings(max_in_flight=4))) as client:
        response = await client.post(
            PATH, json={"prompt": "a", "image": base64_picture()}, headers={"Accept": "text/event-stream"}
        )
    assert "event: error" in response.text
    assert "`preview` that is not UTF-8" in response.text


STREAMED = (
    b'{"name":"echo","max_batch_size":0,"model_transaction_policy":{"decoupled":true},"output":['
    b'{"name":"f","data_type":"TYPE_FP32","dims":[-1]},{"name":"t","data_type":"TYPE_STRING","dims":[1]}]}'
)


async def streamed(event: bytes) -> dict[str, Any]:
    """Send this event from Triton and return it as the client reads it."""
    response = b"data: " + event + b"\n\n"
    start = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n" % len(response)

    async def serve(upstream: Upstream) -> None:
        while True:
            head, _ = await upstream.request()
            if b"/generate_stream" in head:
                await upstream.send(start + response)
                return
            await upstream.respond(STREAMED)

    async with scripted_triton() as triton:
        triton.script = serve
        async with (
            HTTPTriton(triton.url, heartbeat_s=3600) as client,
            aclosing(client.stream("echo", {})) as responses,
        ):
            try:
                outputs = await anext(responses)
            except InferenceError as error:
                return {"error": error.detail}
            return {name: each.array.tolist() for name, each in outputs.items()}


async def test_nan_in_a_stream_arrives_as_triton_writes_it() -> None:
    outputs = await streamed(b'{"model_name":"echo","f":[NaN,1.0,-Infinity],"t":"\\u0000"}')
    assert math.isnan(outputs["f"][0])
    assert (outputs["f"][1:], outputs["t"]) == ([1.0, -math.inf], [b"\0"])


async def test_error_names_stream_output_that_is_not_utf_8() -> None:
    outputs = await streamed(b'{"model_name":"echo","f":1e30,"big":' + b"9" * 30 + b',"t":"caf\xe9"}')
    assert "not UTF-8 text, in `t`" in outputs["error"]


def test_error_for_an_invalid_model_output_has_no_values() -> None:
    with pytest.raises(InferenceError, match="`label`"):
        responses.read(Scores, {"score": 1.0, "scores": [], "info": "{}", "label": b"\xff"}, model=MODEL)
