# SPDX-License-Identifier: Apache-2.0
"""Absurd numbers in every numeric field of every API family: a result or a 4xx error, never a 500."""

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import main
from fastapi_triton.pictures.a1111.controlnet import ControlNetUnit
from fastapi_triton.pictures.a1111.schemas import Txt2ImgRequest
from fastapi_triton.pictures.openai.schemas import ImagesRequest
from fastapi_triton.triton.datatypes import DATATYPES
from support.picture_app import EVERYTHING, every_family
from support.scribble_app import PATH, base64_picture

V1, EDITS, SDAPI, OPTIONS, GENERATED = (
    "/v1/images/generations",
    "/v1/images/edits",
    "/sdapi/v1/txt2img",
    "/sdapi/v1/options",
    f"/models/{EVERYTHING}/infer",
)
JSON, FORM = {"Content-Type": "application/json"}, {"Content-Type": "multipart/form-data; boundary=B"}
PICTURE = json.dumps(base64_picture())

# JSON texts. Some are not JSON, but Python writes them.
ABSURD = (
    "9" * 401,
    "-" + "9" * 401,
    "1" + "0" * 4000,
    "9" * 4300,
    "9" * 4301,
    "9" * 400 + ".0",
    "0." + "9" * 5000,
    "1e400",
    "-1e400",
    "1e999999999",
    "1e-400",
    "NaN",
    "Infinity",
    "-Infinity",
    "1e308",
    "5e-324",
    "-0",
    "-0.0",
    str(2**31),
    str(2**53 + 1),
    str(2**63 - 1),
    str(2**63),
    str(-(2**63) - 1),
    str(2**64),
    "1e3",
    "true",
    "null",
    '"NaN"',
    '"1e400"',
    '"' + "9" * 5000 + '"',
    "[]",
    "[1e400]",
    "[[9]]",
    '{"a": NaN}',
    '{"a": ' + "9" * 4300 + "}",
)
JSON_NUMBERS = st.one_of(
    st.sampled_from(ABSURD),
    st.integers(-(10**500), 10**500).map(str),
    st.integers(-(2**65), 2**65).map(str),
    st.floats().map(lambda each: json.dumps(each)),
    st.floats(width=16).map(lambda each: json.dumps([each, 1])),
)


def number_fields(model: Any) -> list[str]:
    """The fields of a pydantic model that take numbers, or anything."""
    properties = model.model_json_schema()["properties"]
    return [
        name for name, each in properties.items() if "integer" in str(each) or "number" in str(each) or len(each) < 3
    ]


def declared(name: str, text: str) -> tuple[str, bytes, dict[str, str]]:
    return PATH, f'{{"prompt": "a", "image": {PICTURE}, "{name}": {text}}}'.encode(), JSON


def form_of(path: str, name: str, text: str) -> tuple[str, bytes, dict[str, str]]:
    fields = {"prompt": "a", "image": base64_picture(), name: text}
    parts = [f'--B\r\nContent-Disposition: form-data; name="{each}"\r\n\r\n{fields[each]}\r\n' for each in fields]
    return path, ("".join(parts) + "--B--\r\n").encode(), FORM


def openai(name: str, text: str) -> tuple[str, bytes, dict[str, str]]:
    return V1, f'{{"prompt": "a", "{name}": {text}}}'.encode(), JSON


def a1111(name: str, text: str) -> tuple[str, bytes, dict[str, str]]:
    return SDAPI, f'{{"prompt": "a", "{name}": {text}}}'.encode(), JSON


def unit(name: str, text: str) -> tuple[str, bytes, dict[str, str]]:
    scripts = f'{{"controlnet": {{"args": [{{"image": {PICTURE}, "{name}": {text}}}]}}}}'
    return SDAPI, f'{{"prompt": "a", "alwayson_scripts": {scripts}}}'.encode(), JSON


def generated(name: str, text: str) -> tuple[str, bytes, dict[str, str]]:
    return GENERATED, f'{{"INT8": [1], "{name}": {text}}}'.encode(), JSON


OWN = number_fields(main.ScribbleRequest)
CASES: list[tuple[Callable[[str, str], tuple[str, bytes, dict[str, str]]], list[str]]] = [
    (declared, OWN),
    (lambda name, text: form_of(PATH, name, text), OWN),
    (openai, [*number_fields(ImagesRequest), *OWN, "size"]),
    (lambda name, text: form_of(EDITS, name, text), [*number_fields(ImagesRequest), *OWN, "size"]),
    (a1111, [*Txt2ImgRequest.model_fields]),
    (unit, [*ControlNetUnit.model_fields]),
    (generated, [each.wire for each in DATATYPES if each.wire != "INT8"]),
    (lambda name, text: (OPTIONS, f'{{"{name}": {text}}}'.encode(), JSON), ["sd_model_checkpoint", "samples_format"]),
]
Send = Callable[[str, bytes, dict[str, str]], httpx2.Response]


@pytest.fixture(scope="module")
def send() -> Iterator[Send]:
    """Sends one request to an app with all API families."""
    with asyncio.Runner() as runner:
        family = every_family()
        client = runner.run(family.__aenter__())

        async def post(path: str, body: bytes, headers: dict[str, str]) -> httpx2.Response:
            return await client.post(path, content=body, headers=headers)

        yield lambda *request: runner.run(post(*request))
        runner.run(family.__aexit__(None, None, None))


def require_valid_response(response: httpx2.Response) -> Any:
    """A 200 or a client error, with JSON that every parser accepts."""
    assert response.status_code in (200, 400, 413, 422), response.text[:1000]

    def fail(name: str) -> None:
        pytest.fail(f"the response contains {name}")

    return json.loads(response.content, parse_constant=fail)


@pytest.mark.parametrize(("request_of", "names"), CASES, ids=range(len(CASES)))
def test_absurd_numbers_get_a_result_or_an_error(send: Send, request_of: Callable[..., Any], names: list[str]) -> None:
    assert names
    for name in names:
        for text in ABSURD:
            require_valid_response(send(*request_of(name, text)))


@pytest.mark.parametrize("path", [V1, EDITS])
def test_invalid_sizes_are_rejected(send: Send, path: str) -> None:
    for size in (
        "autox1",
        "xauto",
        "auto x",
        "0x1",
        "1x0",
        "1",
        "x",
        "1x1x1",
        "-1x1",
        "1e3x1",
        "\uff11x1",
        "100000x1",
        "000001x1",
        "1x" + "9" * 400,
        "0" * 5000 + "1x1",
        "1x" + "9" * 5000,
    ):
        body = json.dumps({"prompt": "a", "image": base64_picture(), "size": size})
        if path == V1:
            body = json.dumps({"prompt": "a", "size": size})
        error = require_valid_response(send(path, body.encode(), JSON))
        assert (error["error"]["param"], error["error"]["code"]) == ("size", "invalid_value")


@settings(max_examples=300)
@given(st.data())
def test_any_number_gets_a_result_or_an_error(send: Send, data: st.DataObject) -> None:
    request_of, names = data.draw(st.sampled_from(CASES))
    name, text = data.draw(st.sampled_from(names)), data.draw(JSON_NUMBERS)
    require_valid_response(send(*request_of(name, text)))
