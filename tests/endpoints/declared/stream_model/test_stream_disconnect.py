# SPDX-License-Identifier: Apache-2.0
"""Disconnects of clients, from endpoints with a stream model and without one."""

import asyncio
import logging
from collections.abc import AsyncGenerator

import httpx2
import pytest

import main
from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.endpoints import sse
from fastapi_triton.testing import FakeTriton
from fastapi_triton.triton.client import Tensors
from fastapi_triton.triton.model_config import ModelConfig
from fastapi_triton.triton.tensor import Tensor
from support.app_on_socket import listening
from support.received_events import events_of
from support.scribble_app import MODEL, PATH, bytes_tensor, paint
from support.scripted_stream_model import SSE, STREAM_MODEL, Body, ScriptedStreamModel


@pytest.mark.parametrize("accept", ["text/event-stream", "application/json", "image/png"])
async def test_a_disconnect_closes_the_models_stream_and_frees_the_slot(
    socket_client: httpx2.AsyncClient,
    app: TritonFrontend,
    triton: FakeTriton,
    stream_model: ScriptedStreamModel,
    body: Body,
    accept: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "fastapi_triton")
    stream_model.go_on.clear()
    pending = asyncio.create_task(socket_client.post(PATH, json=body(), headers={"Accept": accept}))
    await stream_model.has_request.wait()
    assert app.services.admission.in_flight == 1
    pending.cancel()
    await triton.streams[0].ended.wait()
    assert triton.streams[0].is_closed_early
    assert app.services.admission.in_flight == 0
    assert "the client disconnected" in caplog.text
    stream_model.go_on.set()
    assert (await socket_client.post(PATH, json=body())).status_code == 200


async def test_a_disconnect_between_events_closes_the_models_stream(
    socket_client: httpx2.AsyncClient, triton: FakeTriton, stream_model: ScriptedStreamModel, body: Body
) -> None:
    stream_model.go_on.clear()
    async with socket_client.stream("POST", PATH, json=body(), headers=SSE) as response:
        assert (await anext(events_of(response))).name == "queued"
    await triton.streams[0].ended.wait()
    assert triton.streams[0].is_closed_early


async def test_a_client_that_stops_reading_counts_as_disconnected(
    app: TritonFrontend, triton: FakeTriton, body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def flood(inputs: Tensors) -> AsyncGenerator[dict[str, Tensor], None]:
        while True:
            yield {"event": bytes_tensor(b"progress"), "preview": bytes_tensor(b"p" * 1_000_000)}

    triton.models[STREAM_MODEL].respond_stream = flood
    monkeypatch.setattr(sse, "STALLED_S", 0.05)
    async with (
        listening(app) as client,
        client.stream("POST", PATH, json=body(), headers=SSE) as response,
    ):
        assert response.status_code == 200  # the client reads nothing after this
        await triton.streams[0].ended.wait()
        while app.services.admission.in_flight:  # noqa: ASYNC110 (the slot may be held for one more step)
            await asyncio.sleep(0)


async def test_a_stream_holds_its_slot_until_it_ends(
    socket_client: httpx2.AsyncClient, app: TritonFrontend, stream_model: ScriptedStreamModel, body: Body
) -> None:
    stream_model.go_on.clear()
    async with socket_client.stream("POST", PATH, json=body(), headers=SSE) as first:
        events = events_of(first)
        await anext(events)
        async with socket_client.stream("POST", PATH, json=body(), headers=SSE) as second:
            await anext(events_of(second))
            rejected = await socket_client.post(PATH, json=body(), headers=SSE)
            assert (rejected.status_code, rejected.json()["code"]) == (503, "overloaded")
        stream_model.go_on.set()
        assert [each.name async for each in events][-1] == "completed"
    assert app.services.admission.in_flight == 0


async def test_without_a_stream_model_a_disconnected_request_holds_its_slot_until_triton_has_finished(
    scribble_config: ModelConfig, settings: Settings, body: Body
) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    async def wait(inputs: Tensors) -> dict[str, Tensor]:
        started.set()
        await go_on.wait()
        return await paint(inputs)

    fake = FakeTriton()
    fake.add(scribble_config, wait)
    frontend = TritonFrontend(triton=fake, settings=settings)
    frontend.infer(PATH, model=MODEL, request=main.ScribbleRequest, response=main.ScribbleResponse)
    async with listening(frontend) as client:
        pending = asyncio.create_task(client.post(PATH, json=body()))
        await started.wait()
        pending.cancel()
        assert (await client.get("/health/live")).status_code == 200  # the frontend has run since the disconnect
        assert frontend.services.admission.in_flight == 1
        go_on.set()
        assert (await client.post(PATH, json=body())).status_code == 200
        assert frontend.services.admission.in_flight == 0
