# SPDX-License-Identifier: Apache-2.0
"""Errors, notes and log lines repeat only the beginning of a client's text, and list a limited number of problems."""

import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from fastapi_triton.core.errors import MAX_PROBLEMS, FieldProblem, InvalidRequestError, shown
from fastapi_triton.core.suggestions import nearest
from support.picture_app import EVERYTHING, every_family
from support.scribble_app import PATH, base64_picture

LONG = "k" * 100_000
V1, V1_EDITS, SDAPI, GENERATED = (
    "/v1/images/generations",
    "/v1/images/edits",
    "/sdapi/v1/txt2img",
    f"/models/{EVERYTHING}/infer",
)
# A response with a picture of a few bytes is smaller, too.
MOST_BYTES = 30_000


@pytest.fixture(scope="module", autouse=True)
def quiet() -> None:
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # it logs complete URLs


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    async with every_family(access_log=True, max_body_bytes=30_000_000) as each:
        yield each


def unit(**fields: Any) -> dict[str, Any]:
    return {"alwayson_scripts": {"controlnet": {"args": [{"image": base64_picture(), **fields}]}}}


TOO_LONG: list[tuple[str, str, Any]] = [
    ("POST", PATH, {LONG: 1}),
    ("POST", PATH, {"prompt": "a", "image": base64_picture(), "scheduler": LONG, LONG: LONG}),
    ("POST", PATH, {"prompt": "a", "image": LONG + "!"}),
    ("POST", V1, {LONG: 1}),
    ("POST", V1, {"prompt": "a", "model": LONG}),
    ("POST", V1, {"prompt": "a", "model": f"gpt-image-{LONG}"}),
    ("POST", V1, {"prompt": "a", "size": LONG}),
    ("POST", V1, {"prompt": "a", "quality": LONG, "stream": True}),
    ("POST", V1, {"prompt": "a", "output_format": LONG}),
    ("GET", f"/v1/models/{LONG[:30_000]}", None),
    ("POST", SDAPI, {"sampler_name": LONG}),
    ("POST", SDAPI, {"force_task_id": LONG}),
    ("POST", SDAPI, {"alwayson_scripts": {LONG: {"args": [1]}}}),
    ("POST", SDAPI, {"override_settings": {"sd_model_checkpoint": LONG}}),
    ("POST", SDAPI, {"override_settings": {"sd_model_checkpoint": [[LONG]] * 100}}),
    ("POST", SDAPI, unit(model=LONG)),
    ("POST", SDAPI, unit(module=LONG)),
    ("POST", "/sdapi/v1/options", {LONG: 1}),
    ("POST", GENERATED, {LONG: [1]}),
    ("POST", GENERATED, {"FP32": {"base64": LONG + "!"}}),
    ("POST", f"/models/{LONG[:30_000]}/infer", {}),
    ("POST", f"/models/{EVERYTHING}/versions/{LONG[:30_000]}/infer", {}),
    ("GET", f"/{LONG[:30_000]}", None),
    ("PUT", f"/sdapi/{LONG[:30_000]}", None),
    ("GET", f"/jobs/{LONG[:30_000]}", None),
]


@pytest.mark.parametrize(("method", "path", "body"), TOO_LONG, ids=range(len(TOO_LONG)))
async def test_error_repeats_only_the_beginning_of_a_long_text(
    client: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture, method: str, path: str, body: Any
) -> None:
    with caplog.at_level(logging.INFO):
        response = await client.request(method, path, json=body)
    assert response.status_code < 500, response.text[:2000]
    assert len(response.content) < MOST_BYTES
    assert sum(map(len, response.headers.values())) < 2000
    assert [len(each.getMessage()) for each in caplog.records if len(each.getMessage()) > 3000] == []
    assert [each for each in caplog.records if "access" in each.name and len(each.fields["path"]) > 500] == []  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "fields",
    [
        {"sampler_name": "Euler", "scheduler": LONG},
        {**unit(control_mode=LONG)},
        {"override_settings": {LONG: True}},
    ],
    ids=["scheduler", "control_mode", "override_settings"],
)
async def test_note_repeats_only_the_beginning_of_a_long_text(
    client: httpx2.AsyncClient, fields: dict[str, Any]
) -> None:
    response = await client.post(SDAPI, json={"prompt": "a", **fields})
    assert response.status_code == 200, response.text[:2000]
    (note,) = json.loads(response.json()["info"])["notes"]
    assert "kkk…" in note
    assert len(note) < 300


@pytest.mark.parametrize("name", ["Content-Type", "Content-Encoding", "X-Request-Timeout", "Accept", "Idempotency-Key"])
async def test_error_shortens_a_long_header(client: httpx2.AsyncClient, name: str) -> None:
    response = await client.post(PATH, content=b"{}", headers={"Content-Type": "application/json", name: LONG[:30_000]})
    assert 400 <= response.status_code < 500
    assert len(response.content) < 2000


async def test_content_length_of_5000_digits_is_too_large(client: httpx2.AsyncClient) -> None:
    response = await client.post(PATH, content=b"{}", headers={"Content-Length": "9" * 5000})
    assert response.status_code == 413


@pytest.mark.parametrize("path", [PATH, V1, GENERATED])
async def test_ten_thousand_unknown_keys_are_not_all_listed(client: httpx2.AsyncClient, path: str) -> None:
    body = {"prompt": 1} | {f"key{number}": number for number in range(9990)}
    response = await client.post(path, json=body)
    assert response.status_code in (400, 422)
    error = response.json()
    assert len(error.get("errors", ())) <= MAX_PROBLEMS
    assert len(response.content) < MOST_BYTES
    detail = error.get("detail") or error["error"]["message"]
    assert "more problems than these" in detail or "9,991 members" in detail


async def test_error_names_a_long_key_by_its_beginning(client: httpx2.AsyncClient) -> None:
    response = await client.post(
        PATH, content=b'{"' + b"k" * 60_000 + b'": 1}', headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 422
    problem = next(each for each in response.json()["errors"] if each["code"] == "unknown_field")
    assert problem["pointer"] == "#/" + "k" * 99 + "…"
    assert "`image`" in response.json()["detail"]


def test_unknown_short_name_gets_a_suggestion_and_long_name_the_known_names() -> None:
    assert nearest("promt", ["prompt", "image"]) == "; did you mean `prompt`?"
    assert nearest("prompt" + "t" * 100, ["prompt", "image"]) == "; known are `prompt`, `image`"


def test_error_shortens_its_texts_and_problems() -> None:
    problem = FieldProblem("#/" + LONG, "x", LONG)
    error = InvalidRequestError(LONG * 10, problems=[problem] * 10_000)
    assert len(error.detail) == len(str(error)) == 4000
    assert len(error.problems) == MAX_PROBLEMS
    assert len(problem.pointer) == 500
    assert len(problem.detail) == 1000


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("red", "red"),
        ("a\r\nb\x1b[31m", "a\\r\\nb\\x1b[31m"),
        (10**5000, "<integer of 16610 bits>"),
        (True, "True"),
        (LONG, "k" * 99 + "…"),
    ],
    ids=["short", "unprintable", "integer", "bool", "long"],
)
def test_value_is_shown_shortened_on_one_line(value: object, text: str) -> None:
    assert shown(value) == text
