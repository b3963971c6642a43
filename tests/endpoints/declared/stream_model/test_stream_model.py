# SPDX-License-Identifier: Apache-2.0
"""The declaration is held against both configs, readiness needs both models, and the twin describes itself."""

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
from support.scripted_stream_model import SSE, TWIN, Body, ScriptedStreamModel


async def test_readiness_needs_both_models(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    answer = await client.get("/health/ready")
    assert answer.json()["endpoints"] == [{"path": PATH, "model": MODEL, "stream_model": TWIN, "ready": True}]
    for name in (MODEL, TWIN):
        triton.models[name].is_ready = False
        answer = await client.get("/health/ready")
        assert (answer.status_code, answer.json()["endpoints"][0]["code"]) == (503, "model_not_ready")
        triton.models[name].is_ready = True
    assert (await client.get("/health/ready")).status_code == 200


async def test_the_declaration_is_held_against_both_configs(
    app: TritonFrontend, client: httpx2.AsyncClient, triton: FakeTriton, body: Body
) -> None:
    config = triton.models[TWIN].config
    triton.models[TWIN].config = replace(config, inputs=config.inputs[1:], decoupled=False)
    with pytest.raises(ContractError):
        await app.endpoints[0].declaration.configs()
    answer = await client.post(PATH, json=body(), headers=SSE)
    assert (answer.status_code, answer.json()["code"]) == (503, "contract_mismatch")
    assert f"the model {TWIN} is not decoupled" in answer.json()["detail"]
    assert f"`ScribbleRequest.prompt`: the model {TWIN} has no input" in answer.json()["detail"]
    triton.models[TWIN].config = config
    public = triton.models[MODEL].config
    triton.models[MODEL].config = replace(public, outputs=public.outputs[:1])
    answer = await client.get("/health/ready")
    assert "`ScribbleResponse.seed`" in answer.json()["endpoints"][0]["detail"]


async def test_describe_is_asked_once_and_again_after_triton_came_back(
    client: httpx2.AsyncClient, triton: FakeTriton, twin: ScriptedStreamModel
) -> None:
    for _ in range(3):
        assert (await client.get(f"{PATH}/describe")).json() == {"sizes": [[128, 128]], "asked": 1}
    assert triton.requests[0][1]["describe"].array.tolist() == [True]
    triton.is_running = False
    assert (await client.get("/health/ready")).status_code == 503
    answer = await client.get(f"{PATH}/describe")
    assert (answer.status_code, answer.json()["code"]) == (503, "triton_unavailable")
    triton.is_running = True
    assert (await client.get(f"{PATH}/describe")).json()["asked"] == 2


async def test_many_who_ask_at_once_ask_the_twin_once(app: TritonFrontend, triton: FakeTriton) -> None:
    answers = await asyncio.gather(*(app.endpoints[0].describe() for _ in range(10)))
    assert {each["asked"] for each in answers} == {1}


async def test_a_twin_that_cannot_describe_itself_says_so(
    app: TritonFrontend, client: httpx2.AsyncClient, triton: FakeTriton
) -> None:
    config = triton.models[TWIN].config
    triton.models[TWIN].config = replace(
        config, inputs=tuple(each for each in config.inputs if each.name != "describe")
    )
    await app.endpoints[0].declaration.configs()
    answer = await client.get(f"{PATH}/describe")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_a_description_that_is_no_object_is_the_models_failure(
    client: httpx2.AsyncClient, triton: FakeTriton
) -> None:
    async def babble(inputs: Tensors) -> AsyncGenerator[dict[str, Tensor], None]:
        yield {"info": bytes_tensor(b"[1]")}

    triton.models[TWIN].respond_stream = babble
    assert (await client.get(f"{PATH}/describe")).status_code == 502


async def test_the_openapi_document_has_events_and_describe(client: httpx2.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    answer = document["paths"][PATH]["post"]["responses"]["200"]["content"]
    assert set(answer) == {"application/json", "image/webp", "image/png", "image/jpeg", "text/event-stream"}
    kinds = answer["text/event-stream"]["x-events"]
    assert set(kinds) == {"queued", "progress", "completed", "error"}
    assert kinds["completed"] == answer["application/json"]["schema"]
    describe = document["paths"][f"{PATH}/describe"]["get"]
    assert describe["summary"] == "Sizes, defaults and limits of the model"
    assert {"200", "404", "502", "503", "504"} <= set(describe["responses"])


async def test_text_reaches_the_twin_as_it_was_sent(client: httpx2.AsyncClient, triton: FakeTriton, body: Body) -> None:
    await client.post(PATH, json=body(prompt="ein Häuschen\n🏠"), headers=SSE)
    assert text(triton.requests[0][1], "prompt") == "ein Häuschen\n🏠"
