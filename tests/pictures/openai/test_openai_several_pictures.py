# SPDX-License-Identifier: Apache-2.0
"""`/v1`: several pictures in one request, and disconnects."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import httpx2
import pytest

from fastapi_triton import TritonFrontend
from fastapi_triton.core.errors import InferenceError
from fastapi_triton.testing import FakeTriton
from fastapi_triton.triton.client import Tensors
from fastapi_triton.triton.tensor import Tensor
from support.scribble_app import paint
from support.scripted_stream_model import STREAM_MODEL, ScriptedStreamModel, stream_inputs

GENERATIONS = "/v1/images/generations"


async def test_n_pictures_have_successive_seeds(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    body = (await client.post(GENERATIONS, json={"prompt": "a red house", "n": 2, "seed": 40})).json()
    assert [each["seed"] for each in body["data"]] == [40, 41]
    assert [each["seed"] for each in stream_inputs(triton)] == [40, 41]


async def test_n_pictures_are_admitted_together_or_not_at_all(
    socket_client: httpx2.AsyncClient, app: TritonFrontend, triton: FakeTriton, stream_model: ScriptedStreamModel
) -> None:
    stream_model.go_on.clear()
    waiting = asyncio.create_task(socket_client.post(GENERATIONS, json={"prompt": "a red house"}))
    await stream_model.has_request.wait()
    response = await socket_client.post(GENERATIONS, json={"prompt": "a red house", "n": 2})
    assert (response.status_code, response.json()["error"]["code"]) == (503, "overloaded")
    assert response.headers["retry-after"] == "1"
    assert len(stream_inputs(triton)) == 1
    stream_model.go_on.set()
    assert (await waiting).status_code == 200
    assert (await socket_client.post(GENERATIONS, json={"prompt": "a red house", "n": 2})).status_code == 200
    assert app.services.admission.in_flight == 0


async def test_when_one_of_n_pictures_fails_the_others_are_cancelled(
    client: httpx2.AsyncClient, app: TritonFrontend, triton: FakeTriton
) -> None:
    has_begun = asyncio.Event()

    async def respond(inputs: Tensors) -> AsyncGenerator[dict[str, Tensor], None]:
        if "describe" in inputs:
            yield {"info": Tensor.of_one(inputs["describe"].datatype, b"{}", (1,))}
            return
        if inputs["seed"].array.item() == 2:
            await has_begun.wait()
            raise InferenceError("NaN.", code="generation_failed")
        has_begun.set()
        await asyncio.Event().wait()
        yield await paint(inputs)

    triton.models[STREAM_MODEL].respond_stream = respond
    response = await client.post(GENERATIONS, json={"prompt": "a red house", "n": 2, "seed": 1})
    assert (response.status_code, response.json()["error"]["code"]) == (502, "generation_failed")
    await asyncio.gather(*(stream.ended.wait() for stream in triton.streams))
    assert any(stream.is_closed_early for stream in triton.streams)
    assert app.services.admission.in_flight == 0


@pytest.mark.parametrize("fields", [{}, {"n": 2}, {"stream": True}])
async def test_closing_the_connection_cancels_all_pictures(
    socket_client: httpx2.AsyncClient,
    app: TritonFrontend,
    triton: FakeTriton,
    stream_model: ScriptedStreamModel,
    fields: dict[str, Any],
) -> None:
    stream_model.go_on.clear()
    waiting = asyncio.create_task(socket_client.post(GENERATIONS, json={"prompt": "a red house", **fields}))
    await stream_model.has_request.wait()
    waiting.cancel()
    streams = [stream for stream in triton.streams if not stream.ended.is_set()]
    await asyncio.gather(*(stream.ended.wait() for stream in streams))
    assert all(stream.is_closed_early for stream in streams)
    assert app.services.admission.in_flight == 0
