# SPDX-License-Identifier: Apache-2.0
"""Errors of every API show the wrong value, cut to 100 characters, and say what it must be."""

import base64
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from support.picture_app import EVERYTHING, every_family
from support.scribble_app import MODEL, PATH, base64_picture

IMAGES, TXT2IMG, OPTIONS = "/v1/images/generations", "/sdapi/v1/txt2img", "/sdapi/v1/options"
GENERATED = f"/models/{EVERYTHING}/infer"
LONG = "x" * 300
CUT = "x" * 99 + "…"
SCRIBBLE = {"prompt": "a house", "image": base64_picture()}


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    async with every_family() as each:
        yield each


def unit(**fields: Any) -> dict[str, Any]:
    """A request of A1111 with one ControlNet unit."""
    return {"prompt": "a house", "alwayson_scripts": {"controlnet": {"args": [{"image": base64_picture(), **fields}]}}}


@pytest.mark.parametrize(
    ("path", "body", "detail"),
    [
        (PATH, [1], "The body is a list; it must be an object."),
        (PATH, {**SCRIBBLE, "seed": -2}, "`seed` is -2; it must be at least -1."),
        (PATH, {**SCRIBBLE, "seed": "a\nb"}, r'`seed` is "a\nb"; it must be a whole number.'),
        (PATH, {**SCRIBBLE, "seed": 2**63}, "`seed` is 9223372036854775808; it must be a whole number from"),
        (PATH, {**SCRIBBLE, "width": LONG}, f'`width` is "{CUT}"; it must be a whole number.'),
        (PATH, {**SCRIBBLE, "invert": "maybe"}, '`invert` is "maybe"; it must be one of auto, yes, no.'),
        (PATH, {**SCRIBBLE, "reproducible": 1}, "`reproducible` is 1; it must be true or false."),
        (PATH, {**SCRIBBLE, LONG: 1}, f"There is no field `{CUT}`; known are `prompt`"),
        (PATH, {**SCRIBBLE, "image": "A@=="}, '`image` is not base64: its character 2 is "@", outside the base64'),
        (PATH, {**SCRIBBLE, "image": "https://a/b.png"}, "`image` is not base64: it is a URL, which the server does"),
        (PATH, {**SCRIBBLE, "image": base64.b64encode(b"hi").decode()}, "`image` is not a PNG, JPEG, WebP, GIF or BMP"),
        (PATH, {**SCRIBBLE, "image": base64_picture(size=(1, 17_000))}, "`image` has 1 x 17000 pixels; the limit"),
        (GENERATED, {"INT8": [1, 200]}, "`INT8.1` is 200; it must be a whole number from -128 to 127, for INT8."),
        (GENERATED, {"INT32": ["5"]}, '`INT32.0` is "5"; it must be a whole number, for INT32.'),
        (GENERATED, {"FP32": {"b64": ""}}, '`FP32` is an object with b64; it must be {"npy": …} or'),
        (GENERATED, {"FP32": {"base64": 5}}, "`FP32.base64` is 5; it must be base64 text."),
        (GENERATED, {"FP32": {"base64": "", "shape": [-1]}}, "`FP32.shape` holds the shape [-1]; a shape is a list of"),
        (GENERATED, {"BYTES": [True]}, '`BYTES.0` is true; it must be text or {"base64": "…"}.'),
        (GENERATED, {"BYTES": [{}]}, '`BYTES.0` is an empty object; it must be {"base64": "…"}.'),
        (f"{GENERATED}?arrays=foo", {}, '`arrays` in the query string is "foo"; it must be "list", "npy",'),
        (IMAGES, {"prompt": "a", "size": "big"}, '`size` is "big"; it must be "auto" or WIDTHxHEIGHT, such as'),
        (IMAGES, {"prompt": "a", "n": 11}, "`n` is 11; it must be at most 10."),
        (
            IMAGES,
            {"prompt": "a", "output_format": "gif"},
            '`output_format` is "gif"; it must be one of webp, png, jpeg',
        ),
        (IMAGES, {"prompt": "a", "response_format": "x"}, '`response_format` is "x"; it must be one of url, b64_json.'),
        (IMAGES, {"prompt": "a", "background": 5}, "`background` is 5; it must be text."),
        (IMAGES, {"prompt": "a", "model": LONG}, f'There is no model "{CUT}"; known are `{MODEL}`.'),
        (TXT2IMG, {"prompt": "a", "steps": "x"}, '`steps` is "x"; it must be a whole number.'),
        (TXT2IMG, {"prompt": "a", "steps": True}, "`steps` is true; it must be a number."),
        (TXT2IMG, {"prompt": "a", "sampler_name": "Foo"}, 'The sampler "Foo" is not supported; use one of Euler'),
        (
            TXT2IMG,
            {"prompt": "a", "sampler_name": "Eulr a"},
            'The sampler "Eulr a" is not supported (did you mean E',
        ),
        (TXT2IMG, {"prompt": "a", "script_name": LONG}, f'`script_name` is "{CUT}"; scripts are not supported.'),
        (TXT2IMG, {"prompt": "a", "alwayson_scripts": {"controlnet": 5}}, "The ControlNet unit is 5; it must be an"),
        (TXT2IMG, unit(weight=9), "`weight` is 9.0; it must be at most 2."),
        (TXT2IMG, unit(module="canny"), '`alwayson_scripts.controlnet.args.module` is "canny"; this preprocessor'),
        (OPTIONS, {"sd_model_checkpoint": "foo"}, 'There is no checkpoint "foo"'),
        (OPTIONS, [], "The body is a list; it must be a JSON object."),
    ],
)
async def test_the_error_shows_the_wrong_value_and_what_it_must_be(
    client: httpx2.AsyncClient, path: str, body: Any, detail: str
) -> None:
    response = await client.post(path, json=body)
    problem = response.json()
    shown = problem["error"]["message"] if path == IMAGES else problem["detail"]
    assert response.status_code in (400, 404, 413, 422)
    assert shown.startswith(detail)


async def test_the_error_does_not_repeat_a_rejected_mask(client: httpx2.AsyncClient) -> None:
    response = await client.post(TXT2IMG, json=unit(mask=base64_picture()))
    assert response.json()["detail"] == "`alwayson_scripts.controlnet.args.mask` is not supported. Omit the mask."


async def test_a_form_without_its_boundary_shows_the_boundary(client: httpx2.AsyncClient) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=abc"}
    response = await client.post(PATH, content=b"--x\r\n", headers=headers)
    assert response.json()["detail"] == "The form cannot be read: its parts do not begin with its boundary, --abc."
