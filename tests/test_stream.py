# SPDX-License-Identifier: Apache-2.0
"""An endpoint with a streaming twin, on the fake Triton: every way of asking, callers who leave, describe."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import httpx2
import numpy as np
import pytest
from pydantic import Field
from scribble_app import MODEL, PATH, bytes_tensor, paint, text
from sockets import Told, events_of, listening

import main
from fastapi_triton import Settings, TritonFrontend, events
from fastapi_triton.datatypes import BY_CONFIG, BY_WIRE
from fastapi_triton.errors import FastAPITritonError, InferenceError, InvalidRequestError
from fastapi_triton.images import media_type
from fastapi_triton.model_config import ModelConfig, TensorConfig
from fastapi_triton.triton.client import Tensor, Tensors
from fastapi_triton.triton.fake import FakeTriton

TWIN = f"{MODEL}_stream"
SSE = {"Accept": "text/event-stream"}
Body = Callable[..., dict[str, Any]]


def tensor(name: str, datatype: str) -> TensorConfig:
    return TensorConfig(name, BY_CONFIG[datatype], (1,), optional=True)


def number(value: int) -> Tensor:
    return Tensor(BY_WIRE["INT32"], np.array([value], np.int32))


class ScriptedTwin:
    """Tells of two steps, then of the picture; a test may hold it, or have it fail, between."""

    def __init__(self) -> None:
        self.is_asked = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.fails_at_once: FastAPITritonError | None = None
        self.fails_after_a_step: FastAPITritonError | None = None
        self.is_complete = True
        self.num_descriptions = 0

    async def __call__(self, inputs: Tensors) -> AsyncGenerator[dict[str, Tensor], None]:
        if "describe" in inputs:
            self.num_descriptions += 1
            yield {"info": bytes_tensor(json.dumps({"sizes": [[128, 128]], "asked": self.num_descriptions}).encode())}
            return
        self.is_asked.set()
        if self.fails_at_once:
            raise self.fails_at_once
        yield {"event": bytes_tensor(b"queued")}
        preview_every = inputs["preview_every"].array.item() if "preview_every" in inputs else 0
        for step in (1, 2):
            await self.go_on.wait()
            told = {"event": bytes_tensor(b"progress"), "step": number(step), "num_steps": number(2)}
            if preview_every and step % preview_every == 0:
                told["preview"] = bytes_tensor(b"UklGRg==")
            yield told
            if self.fails_after_a_step:
                raise self.fails_after_a_step
        yield {"event": bytes_tensor(b"gossip")}  # a kind that the frontend does not know
        if self.is_complete:
            yield {"event": bytes_tensor(b"completed"), **await paint(inputs)}


@pytest.fixture
def twin_config(scribble_config: ModelConfig) -> ModelConfig:
    return ModelConfig(
        name=TWIN,
        max_batch_size=0,
        inputs=(
            *(replace(each, optional=True) for each in scribble_config.inputs),
            tensor("preview_every", "TYPE_INT32"),
            tensor("describe", "TYPE_BOOL"),
        ),
        outputs=(
            *scribble_config.outputs,
            tensor("event", "TYPE_STRING"),
            tensor("step", "TYPE_INT32"),
            tensor("num_steps", "TYPE_INT32"),
            tensor("preview", "TYPE_STRING"),
        ),
        decoupled=True,
    )


@pytest.fixture
async def twin() -> ScriptedTwin:
    return ScriptedTwin()


@pytest.fixture
def triton(scribble_config: ModelConfig, twin_config: ModelConfig, twin: ScriptedTwin) -> FakeTriton:
    fake = FakeTriton()
    fake.add(scribble_config)  # nobody may ask it: it has nothing to answer with
    fake.add(twin_config, respond_stream=twin)
    return fake


@pytest.fixture
def app(triton: FakeTriton, settings: Settings) -> TritonFrontend:
    return app_of(triton, settings)


def app_of(triton: FakeTriton, settings: Settings, request: type = main.ScribbleRequest) -> TritonFrontend:
    frontend = TritonFrontend(triton=triton, settings=settings)
    frontend.infer(PATH, model=MODEL, stream_model=TWIN, request=request, response=main.ScribbleResponse)
    return frontend


@pytest.fixture
async def caller(app: TritonFrontend) -> AsyncIterator[httpx2.AsyncClient]:
    """Over a real socket, so that it can leave."""
    async with listening(app) as client:
        yield client


async def told_to(client: httpx2.AsyncClient, body: dict[str, Any]) -> list[Told]:
    async with client.stream("POST", PATH, json=body, headers=SSE) as answer:
        assert answer.status_code == 200
        return [event async for event in events_of(answer)]


# ---- every way of asking


async def test_plain_json_is_the_last_event_of_the_twins_stream(
    client: httpx2.AsyncClient, triton: FakeTriton, body: Body
) -> None:
    answer = await client.post(PATH, json=body(seed=42), headers={"X-Request-ID": "abc"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert (answer.json()["seed"], answer.json()["info"]) == (42, {"prompt": "a red house"})
    ((model, inputs, request_id),) = triton.requests
    assert (model, request_id) == (TWIN, "abc")
    assert set(inputs) == {"prompt", "image", "conditioning_scale", "seed"}  # no previews for nobody
    assert inputs["seed"].array.shape == (1,)
    assert not triton.streams[0].is_closed_early


async def test_a_picture_is_the_last_event_of_the_twins_stream(client: httpx2.AsyncClient, body: Body) -> None:
    answer = await client.post(PATH, json=body(seed=42), headers={"Accept": "image/png"})
    assert media_type(answer.content) == answer.headers["content-type"] == "image/png"
    assert answer.headers["x-seed"] == "42"


async def test_events_come_in_order_and_the_last_is_the_plain_answer(client: httpx2.AsyncClient, body: Body) -> None:
    plain = (await client.post(PATH, json=body(seed=42))).json()
    assert await told_to(client, body(seed=42)) == [
        Told("queued", {}),
        Told("progress", {"step": 1, "num_steps": 2}),
        Told("progress", {"step": 2, "num_steps": 2, "preview": "UklGRg=="}),
        Told("completed", plain),
    ]


async def test_events_are_neither_cached_nor_held_back_by_proxies(client: httpx2.AsyncClient, body: Body) -> None:
    answer = await client.post(PATH, json=body(), headers=SSE)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["vary"] == "Accept"
    assert answer.headers["x-request-id"]
    assert "content-length" not in answer.headers


async def test_an_event_arrives_before_the_next_is_made(
    caller: httpx2.AsyncClient, twin: ScriptedTwin, body: Body
) -> None:
    twin.go_on.clear()
    async with caller.stream("POST", PATH, json=body(), headers=SSE) as answer:
        told = events_of(answer)
        assert (await anext(told)).name == "queued"
        twin.go_on.set()
        assert [each.name async for each in told] == ["progress", "progress", "completed"]


async def test_a_caller_may_choose_how_often_previews_come(
    triton: FakeTriton, settings: Settings, twin: ScriptedTwin, body: Body
) -> None:
    class Choosy(main.ScribbleRequest):
        preview_every: int | None = Field(None, ge=0)

    async with listening(app_of(triton, settings, Choosy)) as client:
        for asked, previews in ((None, [2]), (1, [1, 2]), (0, [])):
            told = await told_to(client, body(preview_every=asked))
            assert [each.data["step"] for each in told if "preview" in each.data] == previews
        await client.post(PATH, json=body(preview_every=1))
    assert "preview_every" not in triton.requests[-1][1]


async def test_an_endpoint_without_a_twin_gives_no_events(
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


async def test_silence_is_filled_with_comments(
    caller: httpx2.AsyncClient, twin: ScriptedTwin, body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "PING_INTERVAL_S", 0.01)
    twin.go_on.clear()
    async with caller.stream("POST", PATH, json=body(), headers=SSE) as answer:
        told = events_of(answer)
        assert (await anext(told)).name == "queued"
        assert [await anext(told) for _ in range(3)] == [Told("", "ping")] * 3
        twin.go_on.set()
        assert [each.name async for each in told if each.name] == ["progress", "progress", "completed"]


# ---- errors


async def test_an_error_before_the_first_event_is_an_ordinary_answer(
    client: httpx2.AsyncClient, twin: ScriptedTwin, app: TritonFrontend, body: Body
) -> None:
    twin.fails_at_once = InvalidRequestError("No such size.", code="unsupported_size")
    for accept in ("text/event-stream", "application/json", "image/png"):
        answer = await client.post(PATH, json=body(), headers={"Accept": accept})
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == "unsupported_size"
    assert app.services.admission.in_flight == 0


async def test_a_bad_field_is_refused_before_triton_hears_of_it(
    client: httpx2.AsyncClient, triton: FakeTriton, body: Body
) -> None:
    answer = await client.post(PATH, json=body(seed=2**70), headers=SSE)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "#/seed")
    assert not triton.requests


async def test_an_error_after_the_first_event_is_the_last_event(
    client: httpx2.AsyncClient, twin: ScriptedTwin, app: TritonFrontend, body: Body
) -> None:
    twin.fails_after_a_step = InferenceError("NaN.", code="generation_failed")
    answer = await client.post(PATH, json=body(), headers=SSE | {"X-Request-ID": "abc"})
    assert answer.status_code == 200
    assert answer.text.count("event: ") == 3
    name, _, data = answer.text.strip().rpartition("event: ")[2].partition("\ndata: ")
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


async def test_a_stream_without_an_end_is_the_models_failure(
    client: httpx2.AsyncClient, twin: ScriptedTwin, body: Body
) -> None:
    twin.is_complete = False
    plain = await client.post(PATH, json=body())
    assert (plain.status_code, plain.json()["code"]) == (502, "inference_failed")
    told = await told_to(client, body())
    assert (told[-1].name, told[-1].data["code"]) == ("error", "inference_failed")


async def test_an_answer_that_breaks_the_contract_is_the_last_event_too(
    client: httpx2.AsyncClient, triton: FakeTriton, body: Body
) -> None:
    async def forget_the_picture(inputs: Tensors) -> AsyncGenerator[dict[str, Tensor], None]:
        yield {"event": bytes_tensor(b"queued")}
        yield {"event": bytes_tensor(b"completed")}

    triton.models[TWIN].respond_stream = forget_the_picture
    told = await told_to(client, body())
    assert [each.name for each in told] == ["queued", "error"]
    assert told[-1].data["status"] == 502


# ---- callers who leave


@pytest.mark.parametrize("accept", ["text/event-stream", "application/json", "image/png"])
async def test_a_caller_who_leaves_closes_the_twins_stream_and_frees_its_place(
    caller: httpx2.AsyncClient,
    app: TritonFrontend,
    triton: FakeTriton,
    twin: ScriptedTwin,
    body: Body,
    accept: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "fastapi_triton")
    twin.go_on.clear()
    asking = asyncio.create_task(caller.post(PATH, json=body(), headers={"Accept": accept}))
    await twin.is_asked.wait()
    assert app.services.admission.in_flight == 1
    asking.cancel()
    await triton.streams[0].ended.wait()
    assert triton.streams[0].is_closed_early
    assert app.services.admission.in_flight == 0
    assert "the caller left" in caplog.text
    twin.go_on.set()
    assert (await caller.post(PATH, json=body())).status_code == 200


async def test_a_caller_who_leaves_between_events_closes_the_twins_stream(
    caller: httpx2.AsyncClient, triton: FakeTriton, twin: ScriptedTwin, body: Body
) -> None:
    twin.go_on.clear()
    async with caller.stream("POST", PATH, json=body(), headers=SSE) as answer:
        assert (await anext(events_of(answer))).name == "queued"
    await triton.streams[0].ended.wait()
    assert triton.streams[0].is_closed_early


async def test_a_caller_who_stops_reading_is_taken_for_gone(
    app: TritonFrontend, triton: FakeTriton, body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def flood(inputs: Tensors) -> AsyncGenerator[dict[str, Tensor], None]:
        while True:
            yield {"event": bytes_tensor(b"progress"), "preview": bytes_tensor(b"p" * 1_000_000)}

    triton.models[TWIN].respond_stream = flood
    monkeypatch.setattr(events, "STALLED_S", 0.05)
    async with (
        listening(app) as client,
        client.stream("POST", PATH, json=body(), headers=SSE) as answer,
    ):
        assert answer.status_code == 200  # and then nothing is read
        await triton.streams[0].ended.wait()
        assert app.services.admission.in_flight == 0


async def test_a_place_is_held_for_the_whole_stream(
    caller: httpx2.AsyncClient, app: TritonFrontend, twin: ScriptedTwin, body: Body
) -> None:
    twin.go_on.clear()
    async with caller.stream("POST", PATH, json=body(), headers=SSE) as first:
        told = events_of(first)
        await anext(told)
        async with caller.stream("POST", PATH, json=body(), headers=SSE) as second:
            await anext(events_of(second))
            refused = await caller.post(PATH, json=body(), headers=SSE)
            assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
        twin.go_on.set()
        assert [each.name async for each in told][-1] == "completed"
    assert app.services.admission.in_flight == 0


async def test_without_a_twin_a_leaving_caller_keeps_its_place_until_triton_is_done(
    scribble_config: ModelConfig, settings: Settings, body: Body
) -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def wait(inputs: Tensors) -> dict[str, Tensor]:
        asked.set()
        await go_on.wait()
        return await paint(inputs)

    fake = FakeTriton()
    fake.add(scribble_config, wait)
    frontend = TritonFrontend(triton=fake, settings=settings)
    frontend.infer(PATH, model=MODEL, request=main.ScribbleRequest, response=main.ScribbleResponse)
    async with listening(frontend) as client:
        asking = asyncio.create_task(client.post(PATH, json=body()))
        await asked.wait()
        asking.cancel()
        assert (await client.get("/health/live")).status_code == 200  # the frontend has had its turn
        assert frontend.services.admission.in_flight == 1
        go_on.set()
        assert (await client.post(PATH, json=body())).status_code == 200
        assert frontend.services.admission.in_flight == 0


# ---- the contract, readiness, describe


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
    client: httpx2.AsyncClient, triton: FakeTriton, body: Body
) -> None:
    config = triton.models[TWIN].config
    triton.models[TWIN].config = replace(config, inputs=config.inputs[1:], decoupled=False)
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
    client: httpx2.AsyncClient, triton: FakeTriton, twin: ScriptedTwin
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


async def test_a_twin_that_cannot_describe_itself_says_so(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    config = triton.models[TWIN].config
    triton.models[TWIN].config = replace(
        config, inputs=tuple(each for each in config.inputs if each.name != "describe")
    )
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
