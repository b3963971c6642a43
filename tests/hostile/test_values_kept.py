# SPDX-License-Identifier: Apache-2.0
"""No value is silently changed or dropped: it reaches the model as it was sent, or the request is rejected."""

import json
import math
from collections.abc import AsyncIterator
from decimal import Decimal
from enum import IntEnum
from typing import Any

import httpx2
import numpy as np
import pytest

from fastapi_triton import Settings
from fastapi_triton.core.errors import InvalidRequestError
from fastapi_triton.endpoints.declared import tensors
from fastapi_triton.endpoints.request_body import json_text
from fastapi_triton.triton.datatypes import BY_WIRE
from fastapi_triton.triton.model_config import ModelConfig, TensorConfig
from support.picture_app import EVERYTHING, client_of, every_family, triton_of
from support.scribble_app import PATH, base64_picture
from support.scripted_stream_model import ScriptedStreamModel, app_of

GENERATED = f"/models/{EVERYTHING}/infer"
JSON = {"Content-Type": "application/json"}


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    async with every_family() as each:
        yield each


async def rejected(client: httpx2.AsyncClient, path: str, content: bytes | str) -> tuple[str, str]:
    response = await client.post(path, content=content, headers=JSON)
    error = response.json()
    error = error["error"] if isinstance(error.get("error"), dict) else error
    assert response.status_code in (400, 422), error
    return error["code"], error.get("detail") or error["message"]


# ---- JSON text


@pytest.mark.parametrize("path", [PATH, "/v1/images/generations", "/sdapi/v1/txt2img", "/sdapi/v1/options", GENERATED])
async def test_error_names_text_that_utf_8_cannot_encode(client: httpx2.AsyncClient, path: str) -> None:
    for text in (r"\ud800", r"\uD83D.", r"\uDE00", r"\ud800\ud800", r"\ud83d\ude00\ud83d"):
        code, detail = await rejected(client, path, f'{{"prompt": "a{text}"}}')
        assert code == "invalid_json"
        assert "one half of a surrogate pair" in detail
        assert text[:6] in detail or text[-6:] in detail


@pytest.mark.parametrize("path", [PATH, GENERATED])
async def test_error_says_why_a_body_is_not_json(client: httpx2.AsyncClient, path: str) -> None:
    for body, text in (
        (b"", "it is empty"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        ("{}".encode("utf-16"), "UTF-16"),
        ("{}".encode("utf-16-be"), "UTF-16"),
        ("{}".encode("utf-32-le"), "UTF-16 or UTF-32"),
        (b'{"prompt": "\xff"}', "not UTF-8"),
        (b'{"seed": ' + b"9" * 4301 + b"}", "more than 4,300 digits"),
        (b'{"prompt": "\\u12"}', "invalid escape"),
    ):
        code, detail = await rejected(client, path, body)
        assert (code, text in detail) == ("invalid_json", True), detail


async def test_repeated_member_is_rejected(client: httpx2.AsyncClient) -> None:
    image = base64_picture()
    for path, body in (
        (PATH, f'{{"prompt": "a", "prompt": "b", "image": "{image}"}}'),
        (PATH, f'{{"prompt" : "a: \\":", "prompt"\n: "a", "image": "data:image/png;base64,{image}"}}'),
        ("/v1/images/generations", '{"prompt": "a", "n": 1, "n": 2}'),
        ("/sdapi/v1/txt2img", '{"prompt": "a", "steps": 1, "steps": 2}'),
        ("/sdapi/v1/txt2img", '{"prompt": "a", "override_settings": {"x": 1, "x": 2}}'),
        ("/sdapi/v1/txt2img", '{"prompt": "a", "unknown": 1, "unknown": {"a": [{"b": 1}]}}'),
        ("/sdapi/v1/txt2img", '{"prompt": "a", "unknown": [{"b": 1, "b": 2}]}'),
        ("/sdapi/v1/options", '{"samples_format": "png", "samples_format": "png"}'),
        (GENERATED, '{"FP32": [1], "FP32": [2]}'),
        (GENERATED, '{"FP32": {"base64": "AAAAAA==", "base64": "AACAPw=="}}'),
    ):
        code, detail = await rejected(client, path, body)
        assert (code, "more than once" in detail) == ("repeated_field", True), (path, detail)


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": 1, "b": "c"}',
        b'{"a" : "x:y", "b": "\\":"}',
        b'{"a": "data:image/png;base64,AAAA", "b": 1e400}',
        b'{"a": {"b": 1}, "b": {"a": 1}}',
        b'{"a": ' + b"9" * 4000 + b', "b": {"": NaN}}',
    ],
)
def test_same_member_in_different_objects_is_accepted(body: bytes) -> None:
    json_text.require_unique_members(body, 2)


async def test_nul_and_every_character_arrive(client: httpx2.AsyncClient) -> None:
    text = "a\0b\ufeff\u200b\U0001f600\r\n\t\x1b é"
    response = await client.post(GENERATED, json={"BYTES": [text]})
    assert response.json() == {"BYTES": [text]}
    response = await client.post(PATH, json={"prompt": text, "image": base64_picture()})
    assert response.json()["info"]["prompt"] == text


# ---- numbers


@pytest.mark.parametrize(
    ("wire", "value"),
    [
        ("INT64", 2**63 - 1),
        ("INT64", -(2**63)),
        ("INT64", 2**53 + 1),
        ("UINT64", 2**64 - 1),
        ("FP64", 5e-324),
        ("FP64", 1.7976931348623157e308),
        ("FP32", 3.4028235e38),
        ("FP16", 65504.0),
        ("FP64", -0.0),
        ("FP64", 2**53),
        ("FP64", "NaN"),
        ("BF16", "-Infinity"),
        ("BOOL", True),
    ],
)
async def test_number_in_range_arrives_exactly(client: httpx2.AsyncClient, wire: str, value: Any) -> None:
    response = await client.post(GENERATED, json={wire: [value]})
    (received,) = response.json()[wire]
    assert (received, math.copysign(1, received) if isinstance(received, float) else 1) == (
        value,
        math.copysign(1, value) if isinstance(received, float) else 1,
    )


@pytest.mark.parametrize(
    ("wire", "text"),
    [
        ("INT64", str(2**63)),
        ("INT64", "1e3"),
        ("INT64", "true"),
        ("INT64", "1.0"),
        ("UINT8", "-1"),
        ("UINT8", "256"),
        ("FP32", "1e39"),
        ("FP32", "9" * 400),
        ("FP16", "65520"),
        ("BF16", "3.4e38"),
        ("FP64", "1e400"),
        ("FP64", "NaN"),
        ("FP64", "true"),
        ("FP64", '"1"'),
        ("FP64", "null"),
        ("BOOL", "1"),
        ("BYTES", "1"),
        ("BYTES", "null"),
    ],
)
async def test_number_out_of_range_is_rejected(client: httpx2.AsyncClient, wire: str, text: str) -> None:
    for value in (f"[{text}]", f"[{text}, {text}]"):
        code, detail = await rejected(client, GENERATED, f'{{"{wire}": {value}}}')
        assert code in ("out_of_range", "wrong_type", "not_finite")
        assert wire in detail


async def test_booleans_are_not_numbers_under_sdapi(client: httpx2.AsyncClient) -> None:
    for name in ("seed", "steps", "cfg_scale", "width", "batch_size", "n_iter"):
        code, detail = await rejected(client, "/sdapi/v1/txt2img", json.dumps({"prompt": "a", name: True}))
        assert (code, name in detail) == ("wrong_type", True)


async def test_ignored_sdapi_fields_are_listed_in_the_info(client: httpx2.AsyncClient) -> None:
    idle = {"denoising_strength": 0.7, "hr_upscaler": "Latent", "hr_scale": 2, "s_noise": 1, "s_churn": 0, "eta": 1.0}
    for fields, noted in (
        (idle, []),
        ({**idle, "eta": 0.5, "lora": [{"x": 1}]}, ["`lora`", "`eta` is 0.5"]),
        ({f"field{number}": 1 for number in range(30)}, [*(f"`field{number}`" for number in range(20)), "10 more"]),
    ):
        response = await client.post("/sdapi/v1/txt2img", json={"prompt": "a", **fields})
        notes = json.loads(response.json()["info"])["notes"]
        assert [text in note for note, text in zip(notes, noted, strict=True)] == [True] * len(noted), notes
        assert response.json()["notes"] == notes
        assert "lora" not in response.json()["parameters"]


async def test_two_different_scribbles_in_one_unit_are_rejected(client: httpx2.AsyncClient) -> None:
    for second, status in ((base64_picture("JPEG"), 422), (base64_picture(), 200), ("", 200), (None, 200)):
        unit = {"image": base64_picture(), "input_image": second}
        body = {"prompt": "a", "alwayson_scripts": {"controlnet": {"args": [unit]}}}
        response = await client.post("/sdapi/v1/txt2img", json=body)
        assert response.status_code == status, response.text[:500]


async def test_seed_too_large_for_the_number_of_pictures_is_rejected_first() -> None:
    triton = triton_of(ScriptedStreamModel())
    async with client_of(app_of(triton, Settings(max_in_flight=4))) as client:
        for path, count in (("/v1/images/generations", "n"), ("/sdapi/v1/txt2img", "n_iter")):
            body = json.dumps({"prompt": "a", "seed": 2**63 - 1, count: 2})
            code, detail = await rejected(client, path, body)
            assert (code, "9223372036854775807" in detail) == ("out_of_range", True)
    assert "seed" not in [name for _, inputs, _ in triton.requests for name in inputs]


# ---- values that the declared request model accepts


def one_input(wire: str, dims: tuple[int, ...]) -> ModelConfig:
    return ModelConfig("m", 0, (TensorConfig("x", BY_WIRE[wire], dims),), ())


@pytest.mark.parametrize(
    ("wire", "dims", "value", "problem"),
    [
        ("BYTES", (-1, -1), [["a", "b"], ["c"]], "#/x/1: wrong_shape"),
        ("BYTES", (-1, -1), [[], ["a"]], "#/x/1: wrong_shape"),
        ("BYTES", (-1,), ["a", ["b"]], "#/x/1: wrong_type"),
        ("BYTES", (1,), 5, "#/x: wrong_type"),
        ("BYTES", (1,), "\ud800", "#/x: invalid_text"),
        ("BYTES", (-1,), ["a", "\ud800"], "#/x/1: invalid_text"),
        ("INT32", (-1, -1), [[1], [1, 2]], "#/x/1: wrong_shape"),
        ("INT32", (-1,), [1.5], "#/x/0: wrong_type"),
        ("INT32", (-1,), [None], "#/x/0: wrong_type"),
        ("INT64", (-1,), [10**4000], "#/x/0: out_of_range"),
        ("FP32", (-1, -1), [[1.0], [1.0, 2.0]], "#/x/1: wrong_shape"),
        ("FP32", (-1,), [10**400], "#/x/0: out_of_range"),
        ("FP32", (1,), 10**400, "#/x: out_of_range"),
        ("FP32", (-1,), [1.0, math.nan], "#/x/1: not_finite"),
        ("FP32", (1,), "NaN", "#/x: wrong_type"),
        ("FP16", (-1,), [65519.0, 65520.0], "#/x/1: out_of_range"),
        ("BF16", (1,), 3.4e38, "#/x: out_of_range"),
        ("BOOL", (-1,), [True, 2], "#/x/1: wrong_type"),
    ],
)
def test_values_that_do_not_fit_the_tensor_are_rejected(
    wire: str, dims: tuple[int, ...], value: Any, problem: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        tensors.from_fields({"x": value}, one_input(wire, dims))
    assert [f"{each.pointer}: {each.code}" for each in caught.value.problems] == [problem]


class Level(IntEnum):
    LOW = 1


@pytest.mark.parametrize(
    ("wire", "dims", "value", "array"),
    [
        ("INT32", (2, -1), np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        ("INT32", (-1, 2), [np.array([1, 2]), (3, 4)], [[1, 2], [3, 4]]),
        ("INT32", (1,), np.int64(5), [5]),
        ("INT32", (-1,), [Level.LOW, 2], [1, 2]),
        ("FP32", (-1,), [np.float32(0.5), 2], [0.5, 2.0]),
        ("FP32", (1,), Decimal("1.5"), [1.5]),
        ("BYTES", (-1,), (b"a", "b"), [b"a", b"b"]),
    ],
)
def test_numpy_arrays_tuples_enums_and_decimals_become_tensors(
    wire: str, dims: tuple[int, ...], value: Any, array: Any
) -> None:
    assert tensors.from_fields({"x": value}, one_input(wire, dims))["x"].array.tolist() == array


async def test_nan_is_rejected_in_a_field_of_any_type(client: httpx2.AsyncClient) -> None:
    for text in ("NaN", "1e400", '[1, {"a": -Infinity}]'):
        code, detail = await rejected(
            client, "/sdapi/v1/txt2img", f'{{"prompt": "a", "override_settings": {{"x": {text}}}}}'
        )
        assert (code, "override_settings" in detail) == ("not_finite", True)
