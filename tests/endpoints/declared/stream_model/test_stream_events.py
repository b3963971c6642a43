# SPDX-License-Identifier: Apache-2.0
"""Endpoints with a stream model: plain responses, pictures, events, and errors."""

import json
from collections.abc import AsyncGenerator

import httpx2
import pytest
from pydantic import Field

import main
from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.core.errors import FastAPITritonError, InferenceError, InvalidRequestError
from fastapi_triton.endpoints.images import media_type
from fastapi_triton.testing import FakeTriton
from fastapi_triton.triton.client import Tensors
from fastapi_triton.triton.model_config import ModelConfig
from fastapi_triton.triton.tensor import Tensor
from support.app_on_socket import listening
from support.received_events import ReceivedEvent, events_of
from support.scribble_app import MODEL, PATH, bytes_tensor, paint
from support.scripted_stream_model import SSE, STREAM_MODEL, Body, ScriptedStreamModel, app_of, events_for

# ---- responses


async def test_plain_json_is_the_last_event_of_the_models_stream(
    client: httpx2.AsyncClient, triton: FakeTriton, body: Body
) -> None:
    response = await client.post(PATH, json=body(seed=42), headers={"X-Request-ID": "abc"})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert (response.json()["seed"], response.json()["info"]) == (42, {"prompt": "a red house"})
    ((model, inputs, request_id),) = triton.requests
    assert (model, request_id) == (STREAM_MODEL, "abc")
    assert set(inputs) == {"prompt", "image", "conditioning_scale", "seed", "timeout_s"}  # no previews without a reader
    assert inputs["seed"].array.shape == (1,)
    assert not triton.streams[0].is_closed_early


async def test_a_picture_is_the_last_event_of_the_models_stream(client: httpx2.AsyncClient, body: Body) -> None:
    response = await client.post(PATH, json=body(seed=42), headers={"Accept": "image/png"})
    assert media_type(response.content) == response.headers["content-type"] == "image/png"
    assert response.headers["x-seed"] == "42"


async def test_events_come_in_order_and_the_last_has_the_plain_response(
    client: httpx2.AsyncClient, stream_model: ScriptedStreamModel, body: Body
) -> None:
    plain = (await client.post(PATH, json=body(seed=42))).json()
    assert await events_for(client, body(seed=42)) == [
        ReceivedEvent("queued", {}),
        *(
            ReceivedEvent("progress", {"step": step, "num_steps": 2, "preview": stream_model.preview.decode()})
            for step in (1, 2)
        ),
        ReceivedEvent("completed", plain),
    ]


async def test_events_are_neither_cached_nor_buffered_by_proxies(client: httpx2.AsyncClient, body: Body) -> None:
    response = await client.post(PATH, json=body(), headers=SSE)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-accel-buffering"] == "no"
    assert response.headers["vary"] == "Accept"
    assert response.headers["x-request-id"]
    assert "content-length" not in response.headers


async def test_an_event_arrives_before_the_next_is_made(
    socket_client: httpx2.AsyncClient, stream_model: ScriptedStreamModel, body: Body
) -> None:
    stream_model.go_on.clear()
    async with socket_client.stream("POST", PATH, json=body(), headers=SSE) as response:
        events = events_of(response)
        assert (await anext(events)).name == "queued"
        stream_model.go_on.set()
        assert [each.name async for each in events] == ["progress", "progress", "completed"]


async def test_a_client_may_choose_the_number_of_steps_between_previews(
    triton: FakeTriton, settings: Settings, stream_model: ScriptedStreamModel, body: Body
) -> None:
    class WithPreviewEvery(main.ScribbleRequest):
        preview_every: int | None = Field(None, ge=0)

    async with listening(app_of(triton, settings, WithPreviewEvery)) as client:
        for preview_every, steps in ((None, [1, 2]), (2, [2]), (0, [])):
            events = await events_for(client, body(preview_every=preview_every))
            assert [each.data["step"] for each in events if "preview" in each.data] == steps
        await client.post(PATH, json=body(preview_every=1))
    assert "preview_every" not in triton.requests[-1][1]


async def test_an_endpoint_without_a_stream_model_has_no_events(
    scribble_config: ModelConfig, settings: Settings, body: Body
) -> None:
    fake = FakeTriton()
    fake.add(scribble_config, paint)
    frontend = TritonFrontend(triton=fake, settings=settings)
    endpoint = frontend.infer(PATH, model=MODEL, request=main.ScribbleRequest, response=main.ScribbleResponse)
    transport = httpx2.ASGITransport(app=frontend)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as http:
        assert (await http.post(PATH, json=body(), headers=SSE)).status_code == 406
        assert (await http.get(f"{PATH}/describe")).status_code == 404
    with pytest.raises(FastAPITritonError, match="no stream model"):
        await endpoint.describe()


async def test_heartbeats_fill_silence(triton: FakeTriton, stream_model: ScriptedStreamModel, body: Body) -> None:
    stream_model.go_on.clear()
    async with (
        listening(app_of(triton, Settings(event_heartbeat_s=0.01))) as client,
        client.stream("POST", PATH, json=body(), headers=SSE) as response,
    ):
        events = events_of(response)
        assert (await anext(events)).name == "queued"
        assert [await anext(events) for _ in range(3)] == [ReceivedEvent("", "ping")] * 3
        stream_model.go_on.set()
        assert [each.name async for each in events if each.name] == ["progress", "progress", "completed"]


# ---- errors


async def test_an_error_before_the_first_event_is_a_plain_response(
    client: httpx2.AsyncClient, stream_model: ScriptedStreamModel, app: TritonFrontend, body: Body
) -> None:
    stream_model.fails_at_once = InvalidRequestError("No such size.", code="unsupported_size")
    for accept in ("text/event-stream", "application/json", "image/png"):
        response = await client.post(PATH, json=body(), headers={"Accept": accept})
        assert response.status_code == 422
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["code"] == "unsupported_size"
    assert app.services.admission.in_flight == 0


async def test_a_bad_field_is_rejected_before_triton_gets_the_request(
    client: httpx2.AsyncClient, triton: FakeTriton, body: Body
) -> None:
    response = await client.post(PATH, json=body(seed=2**70), headers=SSE)
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, "#/seed")
    assert not triton.requests


async def test_an_error_after_the_first_event_is_the_last_event(
    client: httpx2.AsyncClient, stream_model: ScriptedStreamModel, app: TritonFrontend, body: Body
) -> None:
    stream_model.fails_after_a_step = InferenceError("NaN.", code="generation_failed")
    response = await client.post(PATH, json=body(), headers=SSE | {"X-Request-ID": "abc"})
    assert response.status_code == 200
    assert response.text.count("event: ") == 3
    name, _, data = response.text.strip().rpartition("event: ")[2].partition("\ndata: ")
    assert name == "error"
    assert json.loads(data) == {
        "type": "about:blank",
        "title": "Bad Gateway",
        "status": 502,
        "code": "generation_failed",
        "detail": "NaN.",
        "request_id": "abc",
    }
    plain = await client.post(PATH, json=body())
    assert (plain.status_code, plain.json()["code"]) == (502, "generation_failed")
    assert app.services.admission.in_flight == 0


async def test_a_stream_without_completed_is_a_502(
    client: httpx2.AsyncClient, stream_model: ScriptedStreamModel, body: Body
) -> None:
    stream_model.is_complete = False
    plain = await client.post(PATH, json=body())
    assert (plain.status_code, plain.json()["code"]) == (502, "inference_failed")
    events = await events_for(client, body())
    assert (events[-1].name, events[-1].data["code"]) == ("error", "inference_failed")


async def test_outputs_that_break_the_contract_are_an_error_event(
    client: httpx2.AsyncClient, triton: FakeTriton, body: Body
) -> None:
    async def forget_the_picture(inputs: Tensors) -> AsyncGenerator[dict[str, Tensor], None]:
        yield {"event": bytes_tensor(b"queued")}
        yield {"event": bytes_tensor(b"completed")}

    triton.models[STREAM_MODEL].respond_stream = forget_the_picture
    events = await events_for(client, body())
    assert [each.name for each in events] == ["queued", "error"]
    assert events[-1].data["status"] == 502
