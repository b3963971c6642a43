# SPDX-License-Identifier: Apache-2.0
"""`/v1`: OpenAI's fields and errors."""

import base64
import io
import json
import re
from typing import Any

import httpx2
import pytest
from PIL import Image
from pydantic import BaseModel, Field

import main
from fastapi_triton import Base64Image, Settings, TritonFrontend
from fastapi_triton.core.errors import (
    DeadlineExceededError,
    FieldProblem,
    InferenceError,
    InvalidRequestError,
    OverloadedError,
)
from fastapi_triton.testing import FakeTriton
from support.app_on_socket import listening
from support.scribble_app import base64_picture, picture
from support.scripted_stream_model import ScriptedStreamModel, app_of, stream_inputs

GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"


async def rejected(client: httpx2.AsyncClient, path: str = GENERATIONS, **fields: Any) -> dict[str, Any]:
    response = await client.post(path, json={"prompt": "a red house", **fields})
    assert response.status_code == 400, response.text
    error: dict[str, Any] = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    return error


# ---- fields


async def test_a_generation_runs_the_stream_model_without_a_scribble(
    client: httpx2.AsyncClient, triton: FakeTriton
) -> None:
    response = await client.post(GENERATIONS, json={"prompt": "a red house", "seed": 5})
    body = response.json()
    assert (response.status_code, body["size"], body["output_format"]) == (200, "16x12", "png")
    assert [(each["seed"], each["info"]) for each in body["data"]] == [(5, {"prompt": "a red house"})]
    assert Image.open(io.BytesIO(base64.b64decode(body["data"][0]["b64_json"]))).format == "PNG"
    assert "notes" not in body
    # conditioning_scale has its declared default, which has no effect without an image.
    assert stream_inputs(triton) == [
        {"prompt": "a red house", "seed": 5, "output_format": "png", "conditioning_scale": 1.0}
    ]


@pytest.mark.parametrize("name", ["image", "image[]"])
async def test_a_form_can_have_the_scribble_and_extension_fields(
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
    response = await client.post(EDITS, data=fields, files={name: ("a.png", picture(), "image/png")})
    assert response.status_code == 200, response.text
    assert stream_inputs(triton) == [
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
            "output_quality": 1,  # OpenAI's minimum is 0, the endpoint's is 1
        }
    ]


@pytest.mark.parametrize(
    ("sent", "preset", "num_notes"),
    [
        ({"quality": "low"}, "draft", 0),
        ({"quality": "medium"}, None, 1),
        ({"quality": "hd"}, "quality", 0),
        ({"quality": "auto"}, None, 0),
        ({"quality": "standard"}, None, 0),
        ({"quality": "low", "preset": "quality"}, "quality", 1),
        ({"quality": "high", "preset": "quality"}, "quality", 0),
        ({"quality": "high", "num_inference_steps": 3}, "quality", 0),
    ],
)
async def test_quality_names_a_preset_if_the_checkpoint_has_it(
    client: httpx2.AsyncClient,
    triton: FakeTriton,
    stream_model: ScriptedStreamModel,
    sent: dict[str, Any],
    preset: str | None,
    num_notes: int,
) -> None:
    stream_model.further_description = {"presets": {"draft": {"num_inference_steps": 4}, "quality": {}}}
    response = await client.post(GENERATIONS, json={"prompt": "a red house", **sent})
    assert response.status_code == 200, response.text
    assert stream_inputs(triton)[0].get("preset") == preset
    assert len(response.json().get("notes", [])) == num_notes


async def test_openai_fields_without_a_meaning_are_noted(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    fields = {
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
    response = await client.post(GENERATIONS, json={"prompt": "a red house", **fields})
    assert response.status_code == 200
    assert response.json()["notes"] == [
        "gpt-image-1 is not available; sdxl_scribble_controlnet is used instead.",
        '`input_fidelity` is "high", and was ignored: use conditioning_scale.',
        '`moderation` is "low", and was ignored: this server does not moderate.',
        '`quality` is "high", and was ignored: send preset or num_inference_steps.',
        '`safety_identifier` is "x", and was ignored: this server does not store it.',
        '`style` is "vivid", and was ignored: write the style into the prompt.',
        '`user` is "me", and was ignored: this server does not store it.',
        "`partial_images` is 2, and was ignored: it has no effect without stream.",
    ]
    assert set(stream_inputs(triton)[0]) == {"prompt", "seed", "output_format", "conditioning_scale"}


async def test_an_unsupported_size_becomes_the_nearest_with_a_note(
    client: httpx2.AsyncClient, triton: FakeTriton
) -> None:
    response = await client.post(GENERATIONS, json={"prompt": "a red house", "size": "1024x1024"})
    assert response.json()["notes"] == ["1024x1024 is not supported; the nearest size, 128x128, is used."]
    response = await client.post(GENERATIONS, json={"prompt": "a red house", "size": "128x128"})
    assert "notes" not in response.json()
    assert [(each["width"], each["height"]) for each in stream_inputs(triton)] == [(128, 128)] * 2


@pytest.mark.parametrize(
    ("fields", "param", "code", "words"),
    [
        ({"prompt": ""}, "prompt", "too_short", "at least 1"),
        ({"size": "big"}, "size", "invalid_value", "WIDTHxHEIGHT"),
        ({"size": "1024*1024"}, "size", "invalid_value", "WIDTHxHEIGHT"),
        ({"size": "0x64"}, "size", "invalid_value", "WIDTHxHEIGHT"),
        ({"size": "100000x64"}, "size", "invalid_value", "up to 99999x99999"),
        ({"size": "9999999999x64"}, "size", "invalid_value", "WIDTHxHEIGHT"),
        ({"response_format": "file"}, "response_format", "unsupported_parameter", "url, b64_json"),
        ({"output_format": "gif"}, "output_format", "unsupported_parameter", "webp, png, jpeg"),
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
async def test_an_invalid_value_is_a_400_that_names_the_parameter(
    client: httpx2.AsyncClient, triton: FakeTriton, fields: dict[str, Any], param: str, code: str, words: str
) -> None:
    error = await rejected(client, **fields)
    assert (error["param"], error["code"]) == (param, code)
    assert words in error["message"]
    assert not stream_inputs(triton)


async def test_an_edit_needs_one_picture(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    assert (await rejected(client, EDITS))["param"] == "image"
    assert (await rejected(client, EDITS, image="aGVsbG8="))["code"] == "not_an_image"
    file = ("a.png", picture(), "image/png")
    three = await client.post(EDITS, data={"prompt": "a"}, files=[("image[]", file)] * 3)
    error = three.json()["error"]
    assert (three.status_code, error["code"], error["param"]) == (400, "unsupported_parameter", "image")
    assert "at most 2" in error["message"]
    assert not stream_inputs(triton)


async def test_of_two_pictures_the_second_is_the_scribble(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    first, second, mask = (base64_picture(size=(8 * n, 8)) for n in (1, 2, 3))
    file, other = (("a.png", base64.b64decode(each), "image/png") for each in (first, second))
    for response in (
        await client.post(EDITS, data={"prompt": "a"}, files=[("image[]", file), ("image[]", other)]),
        await client.post(EDITS, data={"prompt": "a"}, files=[("image", file), ("image", other)]),
        await client.post(EDITS, json={"prompt": "a", "images": [{"image_url": first}, {"image_url": second}]}),
        await client.post(EDITS, json={"prompt": "a", "image": [first, second]}),
    ):
        assert response.status_code == 200, response.text
        assert "the second is the scribble" in response.json()["notes"][0]
        assert pictures_in(stream_inputs(triton)[-1]) == {"init_image": first, "image": second}
    await client.post(EDITS, json={"prompt": "a", "image": [first, second], "mask": mask})
    assert pictures_in(stream_inputs(triton)[-1]) == {
        "init_image": first,
        "image": second,
        "mask": mask,
        "mask_selects": "transparent",
    }
    error = await rejected(client, EDITS, image=[first, second], scribble=mask)
    assert (error["param"], error["code"]) == ("image", "unsupported_parameter")


async def test_a_mask_selects_the_transparent_part_of_the_picture_to_change(
    client: httpx2.AsyncClient, triton: FakeTriton
) -> None:
    image, mask, scribble = (base64_picture(size=(8 * n, 8)) for n in (1, 2, 3))
    files = {
        name: (f"{name}.png", base64.b64decode(each), "image/png")
        for name, each in (("image", image), ("mask", mask), ("scribble", scribble))
    }
    response = await client.post(EDITS, data={"prompt": "a"}, files=files)
    assert response.status_code == 200, response.text
    of_picture = {"init_image": image, "mask": mask, "mask_selects": "transparent"}
    for body, expected in (
        ({"mask": mask}, of_picture),
        ({"mask": mask, "mask_selects": "black"}, of_picture | {"mask_selects": "black"}),
        ({"scribble": scribble, "strength": 0.5}, {"image": scribble, "init_image": image, "strength": 0.5}),
        ({"init_image": scribble}, {"image": image, "init_image": scribble}),
    ):
        response = await client.post(EDITS, json={"prompt": "a", "image": image, **body})
        assert response.status_code == 200, response.text
        assert pictures_in(stream_inputs(triton)[-1]) == expected
    assert pictures_in(stream_inputs(triton)[0]) == of_picture | {"image": scribble}


def pictures_in(inputs: dict[str, Any]) -> dict[str, Any]:
    """The stream model's inputs about pictures, with base64 text."""
    names = ("image", "init_image", "mask", "mask_selects", "strength")
    return {name: inputs[name] for name in names if name in inputs}


async def test_a_mask_needs_an_endpoint_that_starts_from_pictures(triton: FakeTriton, settings: Settings) -> None:
    class Scribbles(BaseModel):
        prompt: str
        image: Base64Image
        conditioning_scale: float = 1.0

    async with listening(app_of(triton, settings, Scribbles)) as client:
        error = await rejected(client, EDITS, image=base64_picture(), mask=base64_picture())
        assert (error["param"], error["code"]) == ("mask", "unsupported_parameter")
        assert (await rejected(client, EDITS, image=base64_picture(), scribble=base64_picture()))["param"] == "scribble"


async def test_the_endpoints_fields_are_extension_fields_with_its_limits(
    triton: FakeTriton, settings: Settings
) -> None:
    class Careful(main.ScribbleRequest):
        num_inference_steps: int | None = Field(None, le=20)
        timeout_s: float | None = Field(30.0, le=60)

    async with listening(app_of(triton, settings, Careful)) as client:
        assert (await rejected(client, num_inference_steps=30))["param"] == "num_inference_steps"
        assert (await rejected(client, timeout_s=90.0))["param"] == "timeout_s"
        await client.post(GENERATIONS, json={"prompt": "a red house"})
    assert stream_inputs(triton)[0].get("timeout_s", 30.0) == 30.0


async def test_the_model_is_listed_and_other_models_are_not_found(client: httpx2.AsyncClient) -> None:
    listed = (await client.get("/v1/models")).json()
    assert (listed["object"], [each["id"] for each in listed["data"]]) == ("list", ["sdxl_scribble_controlnet"])
    assert (await client.get("/v1/models/sdxl_scribble_controlnet")).json() == listed["data"][0]
    for response in (
        await client.get("/v1/models/flux"),
        await client.post(GENERATIONS, json={"prompt": "a", "model": "flux"}),
    ):
        assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")
        assert "sdxl_scribble_controlnet" in response.json()["error"]["message"]


# ---- errors


async def test_errors_of_routing_and_of_limits_have_openais_format(client: httpx2.AsyncClient) -> None:
    responses = {
        404: await client.post("/v1/chat/completions", json={}),
        405: await client.get(EDITS),
        413: await client.post(EDITS, content=b"x" * 300_000, headers={"Content-Type": "application/json"}),
        415: await client.post(GENERATIONS, data={"prompt": "a"}),
        400: await client.post(GENERATIONS, content=b"{", headers={"Content-Type": "application/json"}),
    }
    for status, response in responses.items():
        assert (response.status_code, response.headers["content-type"]) == (status, "application/json")
        assert set(response.json()) == {"error"}
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}
        assert response.json()["error"]["type"] == "invalid_request_error"
        assert response.headers["x-request-id"]
    assert responses[405].headers["allow"] == "POST"
    assert (await client.get("/elsewhere")).headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("error", "status", "retry_after", "should_retry"),
    [
        (OverloadedError("Full.", retry_after_s=2.5), 503, "3", None),
        (InferenceError("NaN.", code="generation_failed"), 502, None, "false"),
        (DeadlineExceededError("Late."), 504, None, "false"),
    ],
)
async def test_server_errors_say_whether_to_retry(
    client: httpx2.AsyncClient,
    stream_model: ScriptedStreamModel,
    error: Exception,
    status: int,
    retry_after: str | None,
    should_retry: str | None,
) -> None:
    stream_model.fails_at_once = error  # type: ignore[assignment]
    response = await client.post(GENERATIONS, json={"prompt": "a red house"})
    assert (response.status_code, response.json()["error"]["type"]) == (status, "server_error")
    assert (response.headers.get("retry-after"), response.headers.get("x-should-retry")) == (retry_after, should_retry)


async def test_an_internal_error_has_openais_format(
    client: httpx2.AsyncClient, app: TritonFrontend, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail() -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(app.endpoints[0], "describe", fail)
    response = await client.post(GENERATIONS, json={"prompt": "a red house"})
    assert (response.status_code, response.json()["error"]["code"]) == (500, "internal_error")


async def test_errors_of_the_model_name_openais_parameter(
    client: httpx2.AsyncClient, stream_model: ScriptedStreamModel
) -> None:
    stream_model.fails_at_once = InvalidRequestError(
        "No.", problems=[FieldProblem("#/width", "unsupported_size", "No.")]
    )
    assert (await rejected(client))["param"] == "size"


async def test_the_picture_apis_can_be_switched_off(triton: FakeTriton) -> None:
    async with listening(app_of(triton, Settings(openai_api=False, a1111_api=False))) as client:
        for path in (GENERATIONS, "/sdapi/v1/txt2img"):
            response = await client.post(path, json={"prompt": "a red house"})
            assert (response.status_code, response.json()["code"]) == (404, "not_found")


async def test_an_endpoint_without_prompt_and_scribble_has_no_picture_apis(
    triton: FakeTriton, settings: Settings
) -> None:
    class Promptless(main.ScribbleRequest):
        prompt: None = None  # type: ignore[assignment]
        image: None = None  # type: ignore[assignment]

    frontend = app_of(triton, settings, Promptless)
    assert not [route for route in frontend.openapi()["paths"] if route.startswith("/v1")]


async def test_the_openapi_document_has_the_request_models(client: httpx2.AsyncClient) -> None:
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
