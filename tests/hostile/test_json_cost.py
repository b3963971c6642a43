# SPDX-License-Identifier: Apache-2.0
"""JSON that is small to send but slow to parse is rejected before it is parsed, or with a short error."""

import gc
from collections.abc import AsyncIterator, Callable

import httpx2
import pytest
from pydantic import BaseModel

from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.core.errors import MAX_PROBLEMS
from fastapi_triton.endpoints.images import ImageLimits
from fastapi_triton.endpoints.request_body import json_text, validation
from fastapi_triton.endpoints.request_body.json_text import MAX_MEMBERS
from fastapi_triton.testing import FakeTriton
from fastapi_triton.triton.datatypes import BY_WIRE
from fastapi_triton.triton.model_config import ModelConfig, TensorConfig


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    triton = FakeTriton()
    tensors = (TensorConfig("values", BY_WIRE["FP32"], (-1,)),)
    triton.add(ModelConfig("single", 0, tensors, tensors))
    triton.add(ModelConfig("batched", 5000, tensors, tensors))
    app = TritonFrontend(triton=triton, settings=Settings(generate=True))
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://test", timeout=60) as client,
    ):
        await app.registry.poll()
        yield client


def members(num: int) -> bytes:
    return b"{" + b",".join(b'"%d":1' % number for number in range(num)) + b"}"


async def post(http: httpx2.AsyncClient, model: str, body: bytes) -> httpx2.Response:
    headers = {"content-type": "application/json"}
    return await http.post(f"/models/{model}/infer", content=body, headers=headers)


@pytest.mark.parametrize("between", [b":", b" \t:"])
async def test_too_many_members_are_rejected_unread(http: httpx2.AsyncClient, between: bytes) -> None:
    response = await post(http, "single", members(MAX_MEMBERS + 1).replace(b":", between))
    assert (response.status_code, response.json()["code"]) == (413, "too_many_elements")


async def test_allowed_number_of_unknown_members_gets_a_short_error(http: httpx2.AsyncClient) -> None:
    response = await post(http, "single", members(MAX_MEMBERS))
    assert (response.status_code, response.json()["code"]) == (422, "unknown_field")
    assert len(response.content) < 1000
    assert f"{MAX_MEMBERS:,}" in response.json()["detail"]


async def test_rows_of_unknown_members_get_a_bounded_error(http: httpx2.AsyncClient) -> None:
    row = b'{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,"j":1}'
    response = await post(http, "batched", b"[" + b",".join([row] * 5000) + b"]")
    assert response.status_code == 422
    assert len(response.json()["errors"]) == MAX_PROBLEMS
    assert "more problems" in response.json()["detail"]


def test_colons_in_strings_do_not_count_as_members() -> None:
    texts = b'{"values":[' + b",".join([b'"12:30:45"'] * MAX_MEMBERS) + b"]}"
    assert len(json_text.parse(texts)["values"]) == MAX_MEMBERS


def test_garbage_collection_is_on_after_parsing() -> None:
    assert gc.isenabled()
    json_text.parse(b"[1]")
    with pytest.raises(Exception, match="not JSON"):
        json_text.parse(b"[1")
    assert gc.isenabled()


class Rows(BaseModel):
    rows: list[list[int]]


LISTS = b'{"rows":[' + b"[1]," * 20_000 + b"[1]]}"


@pytest.mark.parametrize(
    "read",
    [
        lambda: validation.from_json(LISTS, validation.strict(Rows), ImageLimits(max_pixels=1)),
        lambda: json_text.parse(LISTS),
        lambda: json_text.require_unique_members(LISTS, 0),
    ],
    ids=["a declared endpoint's body", "a generated endpoint's body", "members that may be repeated"],
)
def test_many_lists_are_parsed_without_garbage_collection(read: Callable[[], object]) -> None:
    """Each collection visits all lists: parsing half a million of them took half a second instead of a tenth."""
    phases: list[str] = []

    def note(phase: str, _: object) -> None:
        phases.append(phase)

    gc.collect()
    gc.callbacks.append(note)
    try:
        read()
    finally:
        gc.callbacks.remove(note)
    assert len(phases) <= 2  # one, when collection is enabled again
    assert gc.isenabled()
