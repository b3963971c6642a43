# SPDX-License-Identifier: Apache-2.0
"""The scribble endpoint of `main.py` on the fake Triton: requests and responses."""

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any

import httpx2
import numpy as np
import pytest

from fastapi_triton.endpoints.images import media_type
from fastapi_triton.testing import FakeTriton
from fastapi_triton.triton.client import Tensors
from fastapi_triton.triton.datatypes import BY_WIRE
from fastapi_triton.triton.tensor import Tensor
from support.scribble_app import MODEL, PATH, base64_picture, bytes_tensor, paint, picture, text

Body = Callable[..., dict[str, Any]]


async def test_a_json_request_gets_a_json_response(client: httpx2.AsyncClient, body: Body) -> None:
    response = await client.post(PATH, json=body(seed=42))
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    result = response.json()
    assert result["seed"] == 42
    assert result["info"] == {"prompt": "a red house"}
    assert media_type(base64.b64decode(result["generated_image"])) == "image/webp"


async def test_fields_reach_triton_as_the_tensors_of_the_config(
    client: httpx2.AsyncClient, triton: FakeTriton, body: Body
) -> None:
    await client.post(PATH, json=body(num_inference_steps=5, conditioning_scale=0.5))
    model, inputs, _ = triton.requests[0]
    assert model == MODEL
    assert set(inputs) == {"prompt", "image", "conditioning_scale", "num_inference_steps", "timeout_s"}
    assert inputs["conditioning_scale"].array.dtype == np.float32
    assert inputs["conditioning_scale"].array.tolist() == [[0.5]]
    assert inputs["num_inference_steps"].array.dtype == np.int32
    assert text(inputs, "image") == base64_picture()


async def test_conditioning_scale_is_1_by_default(client: httpx2.AsyncClient, triton: FakeTriton, body: Body) -> None:
    await client.post(PATH, json=body())
    assert triton.requests[0][1]["conditioning_scale"].array.tolist() == [[1.0]]


async def test_a_data_url_and_line_breaks_reach_the_model_as_plain_base64(
    client: httpx2.AsyncClient, triton: FakeTriton, body: Body
) -> None:
    plain = base64_picture()
    broken = "\n".join(plain[start : start + 76] for start in range(0, len(plain), 76))
    for image in (f"data:image/png;base64,{plain}", broken):
        response = await client.post(PATH, json=body(image=image))
        assert response.status_code == 200
        assert text(triton.requests[-1][1], "image") == plain


async def test_a_form_with_a_file_is_the_same_request(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    response = await client.post(
        PATH,
        data={"prompt": "a red house", "num_inference_steps": "5", "conditioning_scale": "0.5"},
        files={"image": ("scribble.png", picture(), "image/png")},
    )
    assert response.status_code == 200
    inputs = triton.requests[0][1]
    assert text(inputs, "image") == base64_picture()
    assert inputs["num_inference_steps"].array.tolist() == [[5]]
    assert inputs["conditioning_scale"].array.tolist() == [[0.5]]


async def test_a_form_takes_the_picture_as_base64_text_too(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    files = {"prompt": (None, "a red house"), "image": (None, base64_picture())}
    response = await client.post(PATH, files=files)
    assert response.status_code == 200
    assert text(triton.requests[0][1], "image") == base64_picture()


@pytest.mark.parametrize("kind", ["png", "webp", "jpeg"])
async def test_accept_gives_the_picture_itself(client: httpx2.AsyncClient, body: Body, kind: str) -> None:
    response = await client.post(PATH, json=body(seed=42), headers={"Accept": f"image/{kind}"})
    assert response.status_code == 200
    assert response.headers["content-type"] == f"image/{kind}"
    assert media_type(response.content) == f"image/{kind}"
    assert response.headers["x-seed"] == "42"
    assert json.loads(response.headers["x-info"]) == {"prompt": "a red house"}


async def test_headers_are_ascii_for_any_prompt(client: httpx2.AsyncClient, body: Body) -> None:
    response = await client.post(
        PATH, json=body(prompt="ein Häuschen\r\nX-Evil: 1 🏠"), headers={"Accept": "image/png"}
    )
    assert response.status_code == 200
    assert json.loads(response.headers["x-info"]) == {"prompt": "ein Häuschen\r\nX-Evil: 1 🏠"}
    assert "x-evil" not in response.headers


async def test_long_values_are_omitted_from_headers_and_named(client: httpx2.AsyncClient, body: Body) -> None:
    response = await client.post(PATH, json=body(prompt="🏠" * 2000, seed=42), headers={"Accept": "image/png"})
    assert response.status_code == 200
    assert json.loads(response.headers["x-info"]) == {"left_out": ["prompt"]}
    assert response.headers["x-seed"] == "42"


async def test_accept_of_any_picture_selects_the_format_of_the_body(client: httpx2.AsyncClient, body: Body) -> None:
    response = await client.post(PATH, json=body(output_format="jpeg"), headers={"Accept": "image/*"})
    assert response.headers["content-type"] == "image/jpeg"


async def test_accept_and_output_format_that_differ_are_rejected(client: httpx2.AsyncClient, body: Body) -> None:
    response = await client.post(PATH, json=body(output_format="jpeg"), headers={"Accept": "image/png"})
    assert response.status_code == 406
    assert "output_format" in response.json()["detail"]


async def test_an_unknown_accept_is_rejected_before_the_body_is_read(client: httpx2.AsyncClient) -> None:
    response = await client.post(PATH, content=b"not even JSON", headers={"Accept": "image/avif"})
    assert response.status_code == 406
    assert response.json()["code"] == "not_acceptable"
    assert "image/png" in response.json()["detail"]


async def test_the_request_id_reaches_triton_and_the_response(
    client: httpx2.AsyncClient, triton: FakeTriton, body: Body
) -> None:
    response = await client.post(PATH, json=body(), headers={"X-Request-ID": "abc-123"})
    assert response.headers["x-request-id"] == "abc-123"
    assert triton.requests[0][2] == "abc-123"


async def test_a_request_id_that_would_garble_the_log_is_replaced(client: httpx2.AsyncClient) -> None:
    response = await client.get("/health/live", headers={"X-Request-ID": "a b"})
    assert response.headers["x-request-id"] not in ("", "a b")


async def test_requests_beyond_the_limit_are_rejected_at_once(
    client: httpx2.AsyncClient, triton: FakeTriton, body: Body
) -> None:
    both_run = asyncio.Event()
    go_on = asyncio.Event()

    async def wait(inputs: Tensors) -> dict[str, Tensor]:
        if len(triton.requests) == 2:
            both_run.set()
        if len(triton.requests) <= 2:  # a third request would get a response, so that the test ends
            await go_on.wait()
        return await paint(inputs)

    triton.models[MODEL].respond = wait
    running = [asyncio.create_task(client.post(PATH, json=body())) for _ in range(2)]
    await both_run.wait()
    rejected = await client.post(PATH, json=body())
    go_on.set()
    assert [response.status_code for response in await asyncio.gather(*running)] == [200, 200]
    assert rejected.status_code == 503
    assert rejected.json()["code"] == "overloaded"
    assert int(rejected.headers["retry-after"]) >= 1
    assert (await client.post(PATH, json=body())).status_code == 200  # the slots are free again


async def test_outputs_that_break_the_contract_are_a_502(
    client: httpx2.AsyncClient, triton: FakeTriton, body: Body
) -> None:
    async def forget_the_picture(inputs: Tensors) -> dict[str, Tensor]:
        tensors = await paint(inputs)
        del tensors["generated_image"]
        return tensors

    triton.models[MODEL].respond = forget_the_picture
    response = await client.post(PATH, json=body())
    assert response.status_code == 502
    assert response.json()["code"] == "inference_failed"


async def test_a_picture_that_is_not_base64_is_a_502(
    client: httpx2.AsyncClient, triton: FakeTriton, body: Body
) -> None:
    async def garbage(inputs: Tensors) -> dict[str, Tensor]:
        return {**await paint(inputs), "generated_image": bytes_tensor(b"%%%")}

    triton.models[MODEL].respond = garbage
    response = await client.post(PATH, json=body(), headers={"Accept": "image/png"})
    assert response.status_code == 502


async def test_an_internal_error_is_a_500_with_the_request_id_and_without_details(
    client: httpx2.AsyncClient, triton: FakeTriton, body: Body
) -> None:
    async def fail(_: Tensors) -> dict[str, Tensor]:
        raise ZeroDivisionError("secret")

    triton.models[MODEL].respond = fail
    response = await client.post(PATH, json=body(), headers={"X-Request-ID": "abc"})
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-request-id"] == "abc"
    assert response.json()["request_id"] == "abc"
    assert "secret" not in response.text


async def test_big_integers_keep_every_digit(client: httpx2.AsyncClient, triton: FakeTriton, body: Body) -> None:
    seed = 2**62 + 1
    response = await client.post(PATH, json=body(seed=seed))
    assert response.json()["seed"] == seed
    assert triton.requests[0][1]["seed"].datatype == BY_WIRE["INT64"]
