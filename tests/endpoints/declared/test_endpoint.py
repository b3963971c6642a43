# SPDX-License-Identifier: Apache-2.0
"""The scribble endpoint of `main.py` on the fake Triton: what callers send and get."""

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


async def test_json_in_json_out(client: httpx2.AsyncClient, body: Body) -> None:
    answer = await client.post(PATH, json=body(seed=42))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    told = answer.json()
    assert told["seed"] == 42
    assert told["info"] == {"prompt": "a red house"}
    assert media_type(base64.b64decode(told["generated_image"])) == "image/webp"


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
        answer = await client.post(PATH, json=body(image=image))
        assert answer.status_code == 200
        assert text(triton.requests[-1][1], "image") == plain


async def test_a_form_with_a_file_is_the_same_request(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    answer = await client.post(
        PATH,
        data={"prompt": "a red house", "num_inference_steps": "5", "conditioning_scale": "0.5"},
        files={"image": ("scribble.png", picture(), "image/png")},
    )
    assert answer.status_code == 200
    inputs = triton.requests[0][1]
    assert text(inputs, "image") == base64_picture()
    assert inputs["num_inference_steps"].array.tolist() == [[5]]
    assert inputs["conditioning_scale"].array.tolist() == [[0.5]]


async def test_a_form_takes_the_picture_as_base64_text_too(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    files = {"prompt": (None, "a red house"), "image": (None, base64_picture())}
    answer = await client.post(PATH, files=files)
    assert answer.status_code == 200
    assert text(triton.requests[0][1], "image") == base64_picture()


@pytest.mark.parametrize("kind", ["png", "webp", "jpeg"])
async def test_accept_gives_the_picture_itself(client: httpx2.AsyncClient, body: Body, kind: str) -> None:
    answer = await client.post(PATH, json=body(seed=42), headers={"Accept": f"image/{kind}"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == f"image/{kind}"
    assert media_type(answer.content) == f"image/{kind}"
    assert answer.headers["x-seed"] == "42"
    assert json.loads(answer.headers["x-info"]) == {"prompt": "a red house"}


async def test_headers_stay_ascii_whatever_the_prompt(client: httpx2.AsyncClient, body: Body) -> None:
    answer = await client.post(PATH, json=body(prompt="ein Häuschen\r\nX-Evil: 1 🏠"), headers={"Accept": "image/png"})
    assert answer.status_code == 200
    assert json.loads(answer.headers["x-info"]) == {"prompt": "ein Häuschen\r\nX-Evil: 1 🏠"}
    assert "x-evil" not in answer.headers


async def test_headers_hold_only_so_much_and_name_what_is_missing(client: httpx2.AsyncClient, body: Body) -> None:
    answer = await client.post(PATH, json=body(prompt="🏠" * 2000, seed=42), headers={"Accept": "image/png"})
    assert answer.status_code == 200
    assert json.loads(answer.headers["x-info"]) == {"left_out": ["prompt"]}
    assert answer.headers["x-seed"] == "42"


async def test_any_picture_means_the_format_that_the_body_names(client: httpx2.AsyncClient, body: Body) -> None:
    answer = await client.post(PATH, json=body(output_format="jpeg"), headers={"Accept": "image/*"})
    assert answer.headers["content-type"] == "image/jpeg"


async def test_accept_and_output_format_that_disagree_are_refused(client: httpx2.AsyncClient, body: Body) -> None:
    answer = await client.post(PATH, json=body(output_format="jpeg"), headers={"Accept": "image/png"})
    assert answer.status_code == 406
    assert "output_format" in answer.json()["detail"]


async def test_an_unknown_accept_is_refused_before_the_body_is_read(client: httpx2.AsyncClient) -> None:
    answer = await client.post(PATH, content=b"not even JSON", headers={"Accept": "image/avif"})
    assert answer.status_code == 406
    assert answer.json()["code"] == "not_acceptable"
    assert "image/png" in answer.json()["detail"]


async def test_the_request_id_goes_to_triton_and_back(
    client: httpx2.AsyncClient, triton: FakeTriton, body: Body
) -> None:
    answer = await client.post(PATH, json=body(), headers={"X-Request-ID": "abc-123"})
    assert answer.headers["x-request-id"] == "abc-123"
    assert triton.requests[0][2] == "abc-123"


async def test_a_request_id_that_would_garble_the_log_is_replaced(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/health/live", headers={"X-Request-ID": "a b"})
    assert answer.headers["x-request-id"] not in ("", "a b")


async def test_requests_beyond_the_limit_are_turned_away_at_once(
    client: httpx2.AsyncClient, triton: FakeTriton, body: Body
) -> None:
    all_there = asyncio.Event()
    go_on = asyncio.Event()

    async def wait(inputs: Tensors) -> dict[str, Tensor]:
        if len(triton.requests) == 2:
            all_there.set()
        if len(triton.requests) <= 2:  # one that should have been turned away is answered, so that the test ends
            await go_on.wait()
        return await paint(inputs)

    triton.models[MODEL].respond = wait
    running = [asyncio.create_task(client.post(PATH, json=body())) for _ in range(2)]
    await all_there.wait()
    refused = await client.post(PATH, json=body())
    go_on.set()
    assert [answer.status_code for answer in await asyncio.gather(*running)] == [200, 200]
    assert refused.status_code == 503
    assert refused.json()["code"] == "overloaded"
    assert int(refused.headers["retry-after"]) >= 1
    assert (await client.post(PATH, json=body())).status_code == 200  # the slots are free again


async def test_an_answer_that_breaks_the_contract_is_the_models_failure(
    client: httpx2.AsyncClient, triton: FakeTriton, body: Body
) -> None:
    async def forget_the_picture(inputs: Tensors) -> dict[str, Tensor]:
        tensors = await paint(inputs)
        del tensors["generated_image"]
        return tensors

    triton.models[MODEL].respond = forget_the_picture
    answer = await client.post(PATH, json=body())
    assert answer.status_code == 502
    assert answer.json()["code"] == "inference_failed"


async def test_a_picture_that_is_no_base64_is_the_models_failure(
    client: httpx2.AsyncClient, triton: FakeTriton, body: Body
) -> None:
    async def garbage(inputs: Tensors) -> dict[str, Tensor]:
        return {**await paint(inputs), "generated_image": bytes_tensor(b"%%%")}

    triton.models[MODEL].respond = garbage
    answer = await client.post(PATH, json=body(), headers={"Accept": "image/png"})
    assert answer.status_code == 502


async def test_a_bug_of_ours_is_a_500_with_an_id_and_without_its_text(
    client: httpx2.AsyncClient, triton: FakeTriton, body: Body
) -> None:
    async def fail(_: Tensors) -> dict[str, Tensor]:
        raise ZeroDivisionError("secret")

    triton.models[MODEL].respond = fail
    answer = await client.post(PATH, json=body(), headers={"X-Request-ID": "abc"})
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"] == "abc"
    assert answer.json()["request_id"] == "abc"
    assert "secret" not in answer.text


async def test_big_integers_keep_every_digit(client: httpx2.AsyncClient, triton: FakeTriton, body: Body) -> None:
    seed = 2**62 + 1
    answer = await client.post(PATH, json=body(seed=seed))
    assert answer.json()["seed"] == seed
    assert triton.requests[0][1]["seed"].datatype == BY_WIRE["INT64"]
