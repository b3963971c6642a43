# SPDX-License-Identifier: Apache-2.0
"""Declarations with a stream model: comparison with both configs, readiness, and the description."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace

import httpx2
import pytest

from fastapi_triton import TritonFrontend
from fastapi_triton.core.errors import ContractError
from fastapi_triton.testing import FakeTriton
from fastapi_triton.triton.client import Tensors
from fastapi_triton.triton.tensor import Tensor
from support.scribble_app import MODEL, PATH, bytes_tensor, text
from support.scripted_stream_model import SSE, STREAM_MODEL, Body, ScriptedStreamModel


async def test_readiness_needs_both_models(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    response = await client.get("/health/ready")
    assert response.json()["endpoints"] == [{"path": PATH, "model": MODEL, "stream_model": STREAM_MODEL, "ready": True}]
    for name in (MODEL, STREAM_MODEL):
        triton.models[name].is_ready = False
        response = await client.get("/health/ready")
        assert (response.status_code, response.json()["endpoints"][0]["code"]) == (503, "model_not_ready")
        triton.models[name].is_ready = True
    assert (await client.get("/health/ready")).status_code == 200


async def test_the_declaration_is_compared_with_both_configs(
    app: TritonFrontend, client: httpx2.AsyncClient, triton: FakeTriton, body: Body
) -> None:
    config = triton.models[STREAM_MODEL].config
    triton.models[STREAM_MODEL].config = replace(config, inputs=config.inputs[1:], decoupled=False)
    with pytest.raises(ContractError):
        await app.endpoints[0].declaration.configs()
    response = await client.post(PATH, json=body(), headers=SSE)
    assert (response.status_code, response.json()["code"]) == (503, "contract_mismatch")
    assert f"the model {STREAM_MODEL} is not decoupled" in response.json()["detail"]
    assert f"`ScribbleRequest.prompt`: the model {STREAM_MODEL} has no input" in response.json()["detail"]
    triton.models[STREAM_MODEL].config = config
    public = triton.models[MODEL].config
    triton.models[MODEL].config = replace(public, outputs=public.outputs[:1])
    response = await client.get("/health/ready")
    assert "`ScribbleResponse.seed`" in response.json()["endpoints"][0]["detail"]


async def test_the_description_is_read_once_and_again_after_triton_was_unavailable(
    client: httpx2.AsyncClient, triton: FakeTriton, stream_model: ScriptedStreamModel
) -> None:
    for _ in range(3):
        assert (await client.get(f"{PATH}/describe")).json() == {"sizes": [[128, 128]], "number": 1}
    assert triton.requests[0][1]["describe"].array.tolist() == [True]
    triton.is_running = False
    assert (await client.get("/health/ready")).status_code == 503
    response = await client.get(f"{PATH}/describe")
    assert (response.status_code, response.json()["code"]) == (503, "triton_unavailable")
    triton.is_running = True
    assert (await client.get(f"{PATH}/describe")).json()["number"] == 2


async def test_concurrent_requests_read_the_description_once(app: TritonFrontend, triton: FakeTriton) -> None:
    responses = await asyncio.gather(*(app.endpoints[0].describe() for _ in range(10)))
    assert {each["number"] for each in responses} == {1}


async def test_a_stream_model_without_a_description_is_a_404(
    app: TritonFrontend, client: httpx2.AsyncClient, triton: FakeTriton
) -> None:
    config = triton.models[STREAM_MODEL].config
    triton.models[STREAM_MODEL].config = replace(
        config, inputs=tuple(each for each in config.inputs if each.name != "describe")
    )
    await app.endpoints[0].declaration.configs()
    response = await client.get(f"{PATH}/describe")
    assert (response.status_code, response.json()["code"]) == (404, "not_found")


async def test_a_description_that_is_not_an_object_is_a_502(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    async def describe_as_list(inputs: Tensors) -> AsyncGenerator[dict[str, Tensor], None]:
        yield {"info": bytes_tensor(b"[1]")}

    triton.models[STREAM_MODEL].respond_stream = describe_as_list
    assert (await client.get(f"{PATH}/describe")).status_code == 502


async def test_the_openapi_document_has_events_and_describe(client: httpx2.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    response = document["paths"][PATH]["post"]["responses"]["200"]["content"]
    assert set(response) == {"application/json", "image/webp", "image/png", "image/jpeg", "text/event-stream"}
    kinds = response["text/event-stream"]["x-events"]
    assert set(kinds) == {"queued", "progress", "completed", "error"}
    assert kinds["completed"] == response["application/json"]["schema"]
    describe = document["paths"][f"{PATH}/describe"]["get"]
    assert describe["summary"] == "Sizes, defaults and limits of the model"
    assert {"200", "404", "502", "503", "504"} <= set(describe["responses"])


async def test_text_reaches_the_stream_model_unchanged(
    client: httpx2.AsyncClient, triton: FakeTriton, body: Body
) -> None:
    await client.post(PATH, json=body(prompt="ein Häuschen\n🏠"), headers=SSE)
    assert text(triton.requests[0][1], "prompt") == "ein Häuschen\n🏠"
