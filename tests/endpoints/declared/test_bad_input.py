# SPDX-License-Identifier: Apache-2.0
"""Errors for invalid requests: status, stable code, pointer to the field, and detail."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import pytest

from fastapi_triton.testing import FakeTriton
from support.problems import problem_of
from support.scribble_app import MODEL, PATH, base64_picture, picture

Body = Callable[..., dict[str, Any]]


@pytest.mark.parametrize(
    ("changes", "pointer", "code", "words"),
    [
        ({"image": None}, "#/image", "missing_field", "required"),
        ({"promt": "x"}, "#/promt", "unknown_field", "`prompt`"),
        ({"prompt": 3}, "#/prompt", "wrong_type", "text"),
        ({"prompt": ""}, "#/prompt", "too_short", "at least 1"),
        ({"conditioning_scale": "1.0"}, "#/conditioning_scale", "wrong_type", "number"),
        ({"conditioning_scale": True}, "#/conditioning_scale", "wrong_type", "number"),
        ({"conditioning_scale": 2.5}, "#/conditioning_scale", "out_of_range", "at most 2"),
        ({"conditioning_scale": -0.1}, "#/conditioning_scale", "out_of_range", "at least 0"),
        ({"num_inference_steps": 2**40}, "#/num_inference_steps", "out_of_range", "2147483647"),
        ({"num_inference_steps": 1.5}, "#/num_inference_steps", "wrong_type", "is 1.5; it must be a whole number"),
        ({"seed": 2**70}, "#/seed", "out_of_range", "9223372036854775807"),
        ({"image": "this is not base64!"}, "#/image", "invalid_base64", "alphabet"),
        ({"image": base64_picture()[:-1]}, "#/image", "invalid_base64", "not a multiple of 4"),
        ({"image": "abc_"}, "#/image", "invalid_base64", "alphabet"),
        ({"image": "data:image/png,abcd"}, "#/image", "invalid_base64", "data:image/png;base64"),
        ({"image": ""}, "#/image", "not_an_image", "empty"),
        ({"image": "aGVsbG8gd29ybGQ="}, "#/image", "not_an_image", "PNG"),
    ],
)
async def test_the_error_names_the_bad_field(
    client: httpx2.AsyncClient,
    triton: FakeTriton,
    body: Body,
    changes: dict[str, Any],
    pointer: str,
    code: str,
    words: str,
) -> None:
    problem = problem_of(await client.post(PATH, json=body(**changes)), 422)
    assert [(each["pointer"], each["code"]) for each in problem["errors"]] == [(pointer, code)]
    assert words in problem["detail"]
    assert not triton.requests


async def test_query_options_are_rejected(client: httpx2.AsyncClient, triton: FakeTriton, body: Body) -> None:
    problem = problem_of(await client.post(f"{PATH}?seed=3", json=body()), 422)
    assert problem["detail"] == "There is no query option `seed`; send fields in the body."
    assert not triton.requests


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"prompt": 3}, "`prompt` is 3; it must be text."),
        ({"seed": "7"}, '`seed` is "7"; it must be a whole number.'),
        ({"seed": 1.5}, "`seed` is 1.5; it must be a whole number."),
        ({"seed": False}, "`seed` is false; it must be a whole number."),
        ({"seed": [1]}, "`seed` is a list; it must be a whole number."),
        ({"seed": {"a": 1}}, "`seed` is an object; it must be a whole number."),
        ({"conditioning_scale": 2.5}, "`conditioning_scale` is 2.5; it must be at most 2."),
        ({"output_format": "k" * 300}, f'`output_format` is "{"k" * 99}…"; it must be one of webp, png, jpeg.'),
        ({"prompt": ""}, "`prompt` has 0 characters; it must have at least 1."),
        ({"prompt": "k" * 10_001}, "`prompt` has 10,001 characters; it must have at most 10,000."),
    ],
)
async def test_the_error_shows_the_wrong_value(
    client: httpx2.AsyncClient, body: Body, changes: dict[str, Any], detail: str
) -> None:
    problem = problem_of(await client.post(PATH, json=body(**changes)), 422)
    assert problem["detail"] == detail


async def test_the_error_about_a_large_body_does_not_show_the_value(client: httpx2.AsyncClient, body: Body) -> None:
    problem = problem_of(await client.post(PATH, json=body(seed="7", image="A" * 70_000)), 422)
    assert "`seed` must be a whole number." in problem["detail"]


async def test_the_error_shows_a_wrong_value_of_a_form(client: httpx2.AsyncClient) -> None:
    form = {"prompt": "a", "num_inference_steps": "many"}
    problem = problem_of(await client.post(PATH, data=form, files={"image": picture()}), 422)
    assert problem["detail"] == '`num_inference_steps` is "many"; it must be a whole number.'


async def test_every_problem_is_listed_at_once(client: httpx2.AsyncClient) -> None:
    problem = problem_of(await client.post(PATH, json={"prompt": "", "scale": 1, "width": "big"}), 422)
    assert {(each["pointer"], each["code"]) for each in problem["errors"]} == {
        ("#/prompt", "too_short"),
        ("#/image", "missing_field"),
        ("#/scale", "unknown_field"),
        ("#/width", "wrong_type"),
    }
    assert problem["code"] == "invalid_request"


async def test_nan_is_rejected(client: httpx2.AsyncClient) -> None:
    content = json.dumps({"prompt": "x", "image": base64_picture(), "conditioning_scale": float("nan")})
    problem = problem_of(await client.post(PATH, content=content, headers={"Content-Type": "application/json"}), 422)
    assert problem["code"] == "not_finite"


@pytest.mark.parametrize(
    "content",
    [b"", b"nope", b'{"prompt": "a"', b'{"prompt": "\xff"}', b'{"a":' + b"[" * 5000, b'{"prompt": "\\ud800"}'],
)
async def test_a_body_that_is_not_json_is_a_400(client: httpx2.AsyncClient, content: bytes) -> None:
    response = await client.post(PATH, content=content, headers={"Content-Type": "application/json"})
    assert problem_of(response, 400)["code"] == "invalid_json"


async def test_json_that_is_not_an_object_is_rejected(client: httpx2.AsyncClient) -> None:
    problem = problem_of(await client.post(PATH, json=["a"]), 422)
    assert problem["errors"][0]["pointer"] == "#"


async def test_a_broken_form_is_a_400(client: httpx2.AsyncClient) -> None:
    for media_type in ("multipart/form-data", "multipart/form-data; boundary=x"):
        response = await client.post(PATH, content=b"--y\r\nnonsense", headers={"Content-Type": media_type})
        assert problem_of(response, 400)["code"] == "invalid_form"


async def test_a_field_sent_twice_in_a_form_is_rejected(client: httpx2.AsyncClient) -> None:
    files = [("image", ("a.png", picture())), ("image", ("b.png", picture())), ("prompt", (None, "x"))]
    problem = problem_of(await client.post(PATH, files=files), 422)
    assert problem["errors"][0]["code"] == "repeated_field"


async def test_the_error_names_bad_values_of_a_form(client: httpx2.AsyncClient) -> None:
    data = {"prompt": "x", "num_inference_steps": "many", "colour": "red"}
    problem = problem_of(await client.post(PATH, data=data, files={"image": ("a.png", b"")}), 422)
    assert {(each["pointer"], each["code"]) for each in problem["errors"]} == {
        ("#/num_inference_steps", "wrong_type"),
        ("#/colour", "unknown_field"),
        ("#/image", "not_an_image"),
    }


async def test_the_error_of_another_content_type_names_the_one_to_send(client: httpx2.AsyncClient, body: Body) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}  # the default of `curl -d`
    problem = problem_of(await client.post(PATH, content=json.dumps(body()), headers=headers), 415)
    assert "-H 'Content-Type: application/json'" in problem["detail"]


async def test_a_truncated_picture_is_rejected_before_triton_gets_it(
    client: httpx2.AsyncClient, triton: FakeTriton
) -> None:
    files = {"prompt": (None, "x"), "image": ("a.png", picture()[:20])}
    problem = problem_of(await client.post(PATH, files=files), 422)
    assert problem["errors"][0]["code"] in ("truncated_image", "not_an_image")
    assert not triton.requests


async def test_a_picture_over_the_pixel_limit_is_rejected_from_its_header(
    client: httpx2.AsyncClient, triton: FakeTriton
) -> None:
    bomb = picture(size=(1001, 1000))
    files = {"prompt": (None, "x"), "image": ("a.png", bomb[: len(bomb) // 2])}  # half of its pixels are missing
    problem = problem_of(await client.post(PATH, files=files), 413)
    assert problem["code"] == "image_too_large"
    assert "1001 x 1000" in problem["detail"]
    assert not triton.requests


@pytest.mark.parametrize("side", [12_000, 20_000])
async def test_a_picture_over_pillows_own_limits_gets_the_same_error(client: httpx2.AsyncClient, side: int) -> None:
    small = bytearray(picture("BMP"))
    small[18:26] = side.to_bytes(4, "little") * 2  # a header with side x side pixels
    response = await client.post(PATH, files={"prompt": (None, "x"), "image": ("a.bmp", bytes(small))})
    assert problem_of(response, 413)["code"] == "image_too_large"


async def test_a_body_over_the_limit_is_rejected_from_its_content_length(
    client: httpx2.AsyncClient, body: Body
) -> None:
    response = await client.post(PATH, json=body(prompt="x" * 300_000))
    problem = problem_of(response, 413)
    assert problem["code"] == "body_too_large"
    assert "200,000" in problem["detail"]
    assert response.headers["connection"] == "close"


@pytest.mark.parametrize(
    "lengths",
    [{}, {"Content-Length": "10", "Transfer-Encoding": "chunked"}],
    ids=["no length", "chunked, with a length"],
)
async def test_a_body_without_length_is_rejected_while_it_arrives(
    client: httpx2.AsyncClient, lengths: dict[str, str]
) -> None:
    num_sent = 0

    async def long_body() -> AsyncIterator[bytes]:
        nonlocal num_sent
        for _ in range(100):
            num_sent += 1
            yield b" " * 50_000

    response = await client.post(PATH, content=long_body(), headers={"Content-Type": "application/json", **lengths})
    assert problem_of(response, 413)["code"] == "body_too_large"
    assert num_sent <= 6


async def test_triton_down_is_a_503_with_retry_after(
    client: httpx2.AsyncClient, triton: FakeTriton, body: Body
) -> None:
    triton.is_running = False
    response = await client.post(PATH, json=body())
    assert problem_of(response, 503)["code"] == "triton_unavailable"
    assert int(response.headers["retry-after"]) >= 1


async def test_a_model_that_is_not_ready_is_a_503(client: httpx2.AsyncClient, triton: FakeTriton, body: Body) -> None:
    triton.models[MODEL].is_ready = False
    assert problem_of(await client.post(PATH, json=body()), 503)["code"] == "model_not_ready"


async def test_an_unknown_route_is_a_404_that_names_the_docs(client: httpx2.AsyncClient) -> None:
    problem = problem_of(await client.get("/nope"), 404)
    assert problem["code"] == "not_found"
    assert "/docs" in problem["detail"]


async def test_a_wrong_method_is_a_405_that_names_the_right_one(client: httpx2.AsyncClient) -> None:
    response = await client.get(PATH)
    assert "POST" in problem_of(response, 405)["detail"]
    assert response.headers["allow"] == "POST"
