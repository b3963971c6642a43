# SPDX-License-Identifier: Apache-2.0
"""`/v1`: what becomes of OpenAI's fields, how its errors look, several pictures at once, leaving."""

import asyncio
import base64
import io
import json
import re
from collections.abc import AsyncGenerator
from typing import Any

import httpx2
import pytest
from PIL import Image
from pydantic import Field

import main
from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.core.errors import (
    DeadlineExceededError,
    FieldProblem,
    InferenceError,
    InvalidRequestError,
    OverloadedError,
)
from fastapi_triton.testing import FakeTriton
from fastapi_triton.triton.client import Tensors
from fastapi_triton.triton.tensor import Tensor
from support.app_on_socket import listening
from support.scribble_app import base64_picture, paint, picture
from support.scripted_stream_model import TWIN, ScriptedStreamModel, app_of, asked

GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"


async def refused(client: httpx2.AsyncClient, path: str = GENERATIONS, **fields: Any) -> dict[str, Any]:
    answer = await client.post(path, json={"prompt": "a red house", **fields})
    assert answer.status_code == 400, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    return error


# ---- what becomes of the fields


async def test_a_prompt_alone_goes_to_the_twin_without_a_sketch(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    answer = await client.post(GENERATIONS, json={"prompt": "a red house", "seed": 5})
    told = answer.json()
    assert (answer.status_code, told["size"], told["output_format"]) == (200, "16x12", "png")
    assert [(each["seed"], each["info"]) for each in told["data"]] == [(5, {"prompt": "a red house"})]
    assert Image.open(io.BytesIO(base64.b64decode(told["data"][0]["b64_json"]))).format == "PNG"
    assert "notes" not in told
    # The declared default of conditioning_scale comes along; without an image it means nothing.
    assert asked(triton) == [{"prompt": "a red house", "seed": 5, "output_format": "png", "conditioning_scale": 1.0}]


@pytest.mark.parametrize("name", ["image", "image[]"])
async def test_a_form_brings_the_sketch_and_extension_fields(
    client: httpx2.AsyncClient, triton: FakeTriton, name: str
) -> None:
    fields = {
        "prompt": "a red house",
        "seed": "3",
        "num_inference_steps": "9",
        "guidance_scale": "2.5",
        "conditioning_scale": "0.5",
        "negative_prompt": "blurry",
        "scheduler": "euler",
        "output_format": "webp",
        "output_compression": "0",
    }
    answer = await client.post(EDITS, data=fields, files={name: ("a.png", picture(), "image/png")})
    assert answer.status_code == 200, answer.text
    assert asked(triton) == [
        {
            "prompt": "a red house",
            "image": base64_picture(),
            "seed": 3,
            "num_inference_steps": 9,
            "guidance_scale": 2.5,
            "conditioning_scale": 0.5,
            "negative_prompt": "blurry",
            "scheduler": "euler",
            "output_format": "webp",
            "output_quality": 1,  # OpenAI's goes from 0
        }
    ]


async def test_fields_that_mean_nothing_here_are_taken(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    harmless = {
        "model": "gpt-image-1",
        "quality": "high",
        "background": "auto",
        "moderation": "low",
        "style": "vivid",
        "input_fidelity": "high",
        "user": "me",
        "safety_identifier": "x",
        "response_format": "b64_json",
        "size": "auto",
        "partial_images": 2,
        "n": None,
        "stream": False,
    }
    answer = await client.post(GENERATIONS, json={"prompt": "a red house", **harmless})
    assert answer.status_code == 200
    assert answer.json()["notes"] == ["gpt-image-1 is not available; sdxl_scribble_controlnet is used instead."]
    assert set(asked(triton)[0]) == {"prompt", "seed", "output_format", "conditioning_scale"}


async def test_a_size_is_snapped_to_what_the_model_describes_and_the_answer_says_so(
    client: httpx2.AsyncClient, triton: FakeTriton
) -> None:
    answer = await client.post(GENERATIONS, json={"prompt": "a red house", "size": "1024x1024"})
    assert answer.json()["notes"] == ["1024x1024 is not supported; the nearest size, 128x128, is used."]
    answer = await client.post(GENERATIONS, json={"prompt": "a red house", "size": "128x128"})
    assert "notes" not in answer.json()
    assert [(each["width"], each["height"]) for each in asked(triton)] == [(128, 128)] * 2


@pytest.mark.parametrize(
    ("fields", "param", "code", "words"),
    [
        ({"prompt": ""}, "prompt", "too_short", "at least 1 character"),
        ({"size": "big"}, "size", "invalid_value", "WIDTHxHEIGHT"),
        ({"size": ""}, "size", "invalid_value", "WIDTHxHEIGHT"),
        ({"size": "0x64"}, "size", "invalid_value", "WIDTHxHEIGHT"),
        ({"size": "9999999999x64"}, "size", "invalid_value", "WIDTHxHEIGHT"),
        ({"response_format": "url"}, "response_format", "unsupported_parameter", "not stored"),
        ({"output_format": "gif"}, "output_format", "unsupported_parameter", "webp, png, jpeg"),
        ({"background": "transparent"}, "background", "unsupported_parameter", "opaque"),
        ({"output_compression": 101}, "output_compression", "out_of_range", "100"),
        ({"n": 0}, "n", "out_of_range", "1"),
        ({"n": 3}, "n", "unsupported_parameter", "at most 2"),
        ({"n": 2, "stream": True}, "n", "unsupported_parameter", "must be 1"),
        ({"partial_images": 4, "stream": True}, "partial_images", "out_of_range", "3"),
        ({"conditioning_scale": 3.0}, "conditioning_scale", "out_of_range", "2"),
        ({"sede": 1}, "sede", "unknown_field", "did you mean `seed`"),
        ({"seed": 2**63}, "seed", "out_of_range", "whole number"),
        ({"image": "aGVsbG8="}, "image", "unknown_field", "image"),
    ],
)
async def test_what_cannot_be_served_is_a_400_that_names_the_parameter(
    client: httpx2.AsyncClient, triton: FakeTriton, fields: dict[str, Any], param: str, code: str, words: str
) -> None:
    error = await refused(client, **fields)
    assert (error["param"], error["code"]) == (param, code)
    assert words in error["message"]
    assert not asked(triton)


async def test_an_edit_needs_one_sketch_and_takes_no_mask(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    assert (await refused(client, EDITS))["param"] == "image"
    assert (await refused(client, EDITS, image="aGVsbG8="))["code"] == "not_an_image"
    file = ("a.png", picture(), "image/png")
    masked = await client.post(EDITS, data={"prompt": "a"}, files={"image": file, "mask": file})
    assert (masked.status_code, masked.json()["error"]["param"]) == (400, "mask")
    assert "masks are not supported" in masked.json()["error"]["message"]
    two = await client.post(EDITS, data={"prompt": "a"}, files=[("image[]", file), ("image[]", file)])
    assert (two.status_code, two.json()["error"]["code"], two.json()["error"]["param"]) == (
        400,
        "repeated_field",
        "image",
    )
    assert not asked(triton)


async def test_whatever_the_endpoint_declares_is_an_extension_field_and_its_rules_hold(
    triton: FakeTriton, settings: Settings
) -> None:
    class Careful(main.ScribbleRequest):
        num_inference_steps: int | None = Field(None, le=20)
        timeout_s: float | None = Field(30.0, le=60)

    async with listening(app_of(triton, settings, Careful)) as client:
        assert (await refused(client, num_inference_steps=30))["param"] == "num_inference_steps"
        assert (await refused(client, timeout_s=90.0))["param"] == "timeout_s"
        await client.post(GENERATIONS, json={"prompt": "a red house"})
    assert asked(triton)[0].get("timeout_s", 30.0) == 30.0


async def test_models_are_listed_and_others_are_not_found(client: httpx2.AsyncClient) -> None:
    listed = (await client.get("/v1/models")).json()
    assert (listed["object"], [each["id"] for each in listed["data"]]) == ("list", ["sdxl_scribble_controlnet"])
    assert (await client.get("/v1/models/sdxl_scribble_controlnet")).json() == listed["data"][0]
    for answer in (
        await client.get("/v1/models/flux"),
        await client.post(GENERATIONS, json={"prompt": "a", "model": "flux"}),
    ):
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
        assert "sdxl_scribble_controlnet" in answer.json()["error"]["message"]


# ---- errors of every kind have OpenAI's shape


async def test_errors_of_routing_and_of_the_door_have_openais_shape(client: httpx2.AsyncClient) -> None:
    answers = {
        404: await client.post("/v1/chat/completions", json={}),
        405: await client.get(EDITS),
        413: await client.post(EDITS, content=b"x" * 300_000, headers={"Content-Type": "application/json"}),
        415: await client.post(GENERATIONS, data={"prompt": "a"}),
        400: await client.post(GENERATIONS, content=b"{", headers={"Content-Type": "application/json"}),
    }
    for status, answer in answers.items():
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
        assert set(answer.json()) == {"error"}
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
        assert answer.json()["error"]["type"] == "invalid_request_error"
        assert answer.headers["x-request-id"]
    assert answers[405].headers["allow"] == "POST"
    assert (await client.get("/elsewhere")).headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("error", "status", "retry_after", "should_retry"),
    [
        (OverloadedError("Full.", retry_after_s=2.5), 503, "3", None),
        (InferenceError("NaN.", code="generation_failed"), 502, None, "false"),
        (DeadlineExceededError("Late."), 504, None, "false"),
    ],
)
async def test_errors_of_the_server_say_whether_to_come_again(
    client: httpx2.AsyncClient,
    twin: ScriptedStreamModel,
    error: Exception,
    status: int,
    retry_after: str | None,
    should_retry: str | None,
) -> None:
    twin.fails_at_once = error  # type: ignore[assignment]
    answer = await client.post(GENERATIONS, json={"prompt": "a red house"})
    assert (answer.status_code, answer.json()["error"]["type"]) == (status, "server_error")
    assert (answer.headers.get("retry-after"), answer.headers.get("x-should-retry")) == (retry_after, should_retry)


async def test_a_bug_of_ours_has_openais_shape_too(
    client: httpx2.AsyncClient, app: TritonFrontend, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stumble() -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(app.endpoints[0], "describe", stumble)
    answer = await client.post(GENERATIONS, json={"prompt": "a red house"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")


async def test_what_the_model_refuses_is_told_of_the_parameter_that_the_caller_knows(
    client: httpx2.AsyncClient, twin: ScriptedStreamModel
) -> None:
    twin.fails_at_once = InvalidRequestError("No.", problems=[FieldProblem("#/width", "unsupported_size", "No.")])
    assert (await refused(client))["param"] == "size"


async def test_it_can_be_switched_off(triton: FakeTriton) -> None:
    async with listening(app_of(triton, Settings(openai_api=False, a1111_api=False))) as client:
        for path in (GENERATIONS, "/sdapi/v1/txt2img"):
            answer = await client.post(path, json={"prompt": "a red house"})
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_an_endpoint_that_makes_no_pictures_from_a_sketch_gets_no_routes(
    triton: FakeTriton, settings: Settings
) -> None:
    class Promptless(main.ScribbleRequest):
        prompt: None = None  # type: ignore[assignment]
        image: None = None  # type: ignore[assignment]

    frontend = app_of(triton, settings, Promptless)
    assert not [route for route in frontend.openapi()["paths"] if route.startswith("/v1")]


async def test_the_openapi_document_says_what_may_be_sent(client: httpx2.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    paths = document["paths"]
    schema = paths[GENERATIONS]["post"]["requestBody"]["content"]["application/json"]["schema"]
    generation = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[-1]]
    assert {"prompt", "n", "size", "seed", "conditioning_scale"} <= set(generation["properties"])
    edit = paths[EDITS]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert edit["properties"]["image"]["format"] == "binary"
    assert "alwayson_scripts" in document["components"]["schemas"]["Txt2ImgRequest"]["properties"]
    assert "Txt2ImgRequest" in json.dumps(paths["/sdapi/v1/txt2img"])
    for found in set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document))):
        assert found in document["components"]["schemas"]


# ---- several pictures


async def test_n_pictures_have_the_seeds_that_follow(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    told = (await client.post(GENERATIONS, json={"prompt": "a red house", "n": 2, "seed": 40})).json()
    assert [each["seed"] for each in told["data"]] == [40, 41]
    assert [each["seed"] for each in asked(triton)] == [40, 41]


async def test_n_pictures_are_all_admitted_or_none(
    caller: httpx2.AsyncClient, app: TritonFrontend, triton: FakeTriton, twin: ScriptedStreamModel
) -> None:
    twin.go_on.clear()
    waiting = asyncio.create_task(caller.post(GENERATIONS, json={"prompt": "a red house"}))
    await twin.is_asked.wait()
    answer = await caller.post(GENERATIONS, json={"prompt": "a red house", "n": 2})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "overloaded")
    assert answer.headers["retry-after"] == "1"
    assert len(asked(triton)) == 1
    twin.go_on.set()
    assert (await waiting).status_code == 200
    assert (await caller.post(GENERATIONS, json={"prompt": "a red house", "n": 2})).status_code == 200
    assert app.services.admission.in_flight == 0


async def test_when_one_of_n_pictures_fails_the_others_are_stopped(
    client: httpx2.AsyncClient, app: TritonFrontend, triton: FakeTriton
) -> None:
    has_begun = asyncio.Event()

    async def respond(inputs: Tensors) -> AsyncGenerator[dict[str, Tensor], None]:
        if "describe" in inputs:
            yield {"info": Tensor.of_one(inputs["describe"].datatype, b"{}", (1,))}
            return
        if inputs["seed"].array.item() == 2:
            await has_begun.wait()
            raise InferenceError("NaN.", code="generation_failed")
        has_begun.set()
        await asyncio.Event().wait()
        yield await paint(inputs)

    triton.models[TWIN].respond_stream = respond
    answer = await client.post(GENERATIONS, json={"prompt": "a red house", "n": 2, "seed": 1})
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "generation_failed")
    await asyncio.gather(*(stream.ended.wait() for stream in triton.streams))
    assert any(stream.is_closed_early for stream in triton.streams)
    assert app.services.admission.in_flight == 0


# ---- leaving


@pytest.mark.parametrize("fields", [{}, {"n": 2}, {"stream": True}])
async def test_a_caller_who_leaves_stops_every_picture(
    caller: httpx2.AsyncClient,
    app: TritonFrontend,
    triton: FakeTriton,
    twin: ScriptedStreamModel,
    fields: dict[str, Any],
) -> None:
    twin.go_on.clear()
    waiting = asyncio.create_task(caller.post(GENERATIONS, json={"prompt": "a red house", **fields}))
    await twin.is_asked.wait()
    waiting.cancel()
    streams = [stream for stream in triton.streams if not stream.ended.is_set()]
    await asyncio.gather(*(stream.ended.wait() for stream in streams))
    assert all(stream.is_closed_early for stream in streams)
    assert app.services.admission.in_flight == 0
