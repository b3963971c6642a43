# SPDX-License-Identifier: Apache-2.0
"""Silent streams: the head, heartbeats and the position in the queue are sent while there is no other event.

Gateways close connections that are silent for a minute or less.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx2
import openai
import orjson
import pytest

from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.cli.generate import client as generate_client
from fastapi_triton.cli.generate.client import GeneratedPicture, Queued, StepProgress
from fastapi_triton.cli.generate.errors import GenerateError
from fastapi_triton.core.errors import InferenceError, OverloadedError
from fastapi_triton.endpoints.sse import PING, Event, EventsResponse
from fastapi_triton.jobs import dbos_queue
from fastapi_triton.testing import FakeTriton
from fastapi_triton.triton.client import Tensors
from fastapi_triton.triton.datatypes import BY_WIRE
from fastapi_triton.triton.model_config import ModelConfig, TensorConfig
from fastapi_triton.triton.tensor import Tensor
from support.app_on_socket import listening
from support.received_events import ReceivedEvent, events_of
from support.scribble_app import PATH, picture
from support.scripted_stream_model import SSE, STREAM_MODEL, Body, ScriptedStreamModel, app_of, stream_model_config
from support.waiting_streams import Client, busy

GENERATIONS, TXT2IMG = "/v1/images/generations", "/sdapi/v1/txt2img"
COUNT = "/models/count/infer"
# No request starts while the only slot is taken.
SOON = {"max_in_flight": 1, "max_waiting": 2, "event_heartbeat_s": 0.02, "generate": True, "watch_interval_s": 3600}


class Counter:
    """A decoupled model that starts when the test allows it."""

    def __init__(self) -> None:
        self.has_request = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self, inputs: Tensors) -> AsyncGenerator[dict[str, Tensor], None]:
        self.has_request.set()
        await self.go_on.wait()
        yield dict(inputs)


@pytest.fixture
async def counter() -> Counter:
    return Counter()


@pytest.fixture
def triton(scribble_config: ModelConfig, stream_model: ScriptedStreamModel, counter: Counter) -> FakeTriton:
    fake = FakeTriton()
    fake.add(scribble_config)
    fake.add(stream_model_config(scribble_config), respond_stream=stream_model)
    number = (TensorConfig("n", BY_WIRE["INT32"], (1,)),)
    fake.add(ModelConfig("count", 0, number, number, decoupled=True), respond_stream=counter)
    return fake


@pytest.fixture
def settings() -> Settings:
    return Settings(**SOON)  # type: ignore[arg-type]


@pytest.fixture
def app(triton: FakeTriton, settings: Settings) -> TritonFrontend:
    return app_of(triton, settings)


@pytest.fixture
async def caller(app: TritonFrontend) -> AsyncIterator[httpx2.AsyncClient]:
    async with listening(app) as client:
        await app.registry.poll()
        yield client


def at(position: int) -> ReceivedEvent:
    return ReceivedEvent("queued", {"position": position})


async def next_other_than(events: AsyncIterator[ReceivedEvent], known: ReceivedEvent) -> ReceivedEvent:
    async for each in events:
        if each != known:
            return each
    raise AssertionError("The stream ended.")


# ---- waiting for a slot


async def test_waiting_stream_reports_its_position_until_it_has_a_slot(
    caller: httpx2.AsyncClient, app: TritonFrontend, body: Body
) -> None:
    async with (
        busy(app) as free,
        caller.stream("POST", PATH, json=body(), headers=SSE) as first,
        caller.stream("POST", PATH, json=body(), headers=SSE) as second,
    ):
        assert first.status_code == second.status_code == 200
        ahead, behind = events_of(first), events_of(second)
        assert [await anext(ahead) for _ in range(2)] == [at(1)] * 2  # no estimate before the first response
        assert [await anext(behind) for _ in range(2)] == [at(2)] * 2
        free()
        for stream, position in ((ahead, at(1)), (behind, at(2))):
            assert await next_other_than(stream, position) in (ReceivedEvent("queued", {}), at(1))
            assert [each.name async for each in stream][-1] == "completed"


async def test_queued_event_has_an_estimate_after_the_first_response(
    caller: httpx2.AsyncClient, app: TritonFrontend, body: Body
) -> None:
    assert (await caller.post(PATH, json=body())).status_code == 200
    async with busy(app), caller.stream("POST", PATH, json=body(), headers=SSE) as response:
        event = await anext(events_of(response))
        assert (event.name, event.data["position"]) == ("queued", 1)
        assert event.data["estimated_wait_s"] >= 0


async def test_error_after_the_head_is_the_last_event(
    caller: httpx2.AsyncClient, app: TritonFrontend, body: Body
) -> None:
    headers = {**SSE, "X-Request-Timeout": "1", "X-Request-ID": "abc"}
    async with busy(app), caller.stream("POST", PATH, json=body(), headers=headers) as response:
        assert response.status_code == 200
        *waiting, last = [each async for each in events_of(response)]
    assert set(map(str, waiting)) == {str(at(1))}
    assert (last.name, last.data["code"], last.data["status"]) == ("error", "deadline_exceeded", 504)
    assert last.data["request_id"] == "abc"
    assert app.services.admission.waiting == 0


async def test_error_before_the_head_keeps_its_status(
    caller: httpx2.AsyncClient, app: TritonFrontend, body: Body
) -> None:
    async with busy(app) as free:
        async with (
            caller.stream("POST", PATH, json=body(), headers=SSE) as first,
            caller.stream("POST", PATH, json=body(), headers=SSE) as second,
        ):
            for each in (first, second):
                await anext(events_of(each))
            rejected = await caller.post(PATH, json=body(), headers=SSE)
        assert (rejected.status_code, rejected.json()["code"]) == (503, "overloaded")
        assert int(rejected.headers["retry-after"]) >= 1
        assert "retry_after_s" not in rejected.json()
        free()


async def test_disconnect_after_the_head_leaves_the_queue_at_once(
    caller: httpx2.AsyncClient, app: TritonFrontend, triton: FakeTriton, body: Body
) -> None:
    async with busy(app):
        async with caller.stream("POST", PATH, json=body(), headers=SSE) as response:
            assert await anext(events_of(response)) == at(1)
            assert app.services.admission.waiting == 1
        while app.services.admission.waiting:  # noqa: ASYNC110 (there is no event for it)
            await asyncio.sleep(0)
    assert not triton.requests


@pytest.mark.parametrize("keeps_running", [False, True])
async def test_position_is_reported_with_and_without_cancellation(
    triton: FakeTriton, body: Body, *, keeps_running: bool
) -> None:
    app = app_of(triton, Settings(**SOON, keep_running_when_caller_leaves=keeps_running))  # type: ignore[arg-type]
    async with (
        listening(app) as client,
        busy(app) as free,
        client.stream("POST", PATH, json=body(), headers=SSE) as response,
    ):
        events = events_of(response)
        assert await anext(events) == at(1)
        free()
        assert [each.name async for each in events][-1] == "completed"


async def test_stream_of_a_generated_endpoint_reports_its_position(
    caller: httpx2.AsyncClient, app: TritonFrontend, counter: Counter
) -> None:
    async with busy(app, "count") as free, caller.stream("POST", COUNT, json={"n": 1}) as response:
        events = events_of(response)
        assert [await anext(events) for _ in range(2)] == [at(1)] * 2
        free()
        await counter.has_request.wait()
        assert await next_other_than(events, at(1)) == ReceivedEvent(
            "", "ping"
        )  # it has its slot, but the model is silent
        counter.go_on.set()
        assert [each async for each in events if each.name] == [
            ReceivedEvent("response", {"n": 1}),
            ReceivedEvent("completed", {"num_responses": 1}),
        ]


# ---- other silent streams


async def test_heartbeats_are_sent_while_the_model_is_silent(
    caller: httpx2.AsyncClient, triton: FakeTriton, body: Body
) -> None:
    go_on = asyncio.Event()

    async def think(inputs: Tensors) -> AsyncGenerator[dict[str, Tensor], None]:
        await go_on.wait()
        raise OverloadedError("The engine's queue is full.", retry_after_s=2.5)
        yield {}

    triton.models[STREAM_MODEL].respond_stream = think
    async with caller.stream("POST", PATH, json=body(), headers=SSE) as response:
        assert response.status_code == 200
        events = events_of(response)
        assert [await anext(events) for _ in range(2)] == [ReceivedEvent("", "ping")] * 2
        go_on.set()
        last = [each async for each in events][-1]
    assert (last.name, last.data["code"], last.data["retry_after_s"]) == ("error", "overloaded", 3)


async def test_heartbeats_are_sent_while_the_model_describes_itself(
    caller: httpx2.AsyncClient, triton: FakeTriton, stream_model: ScriptedStreamModel
) -> None:
    go_on = asyncio.Event()

    async def think(inputs: Tensors) -> AsyncGenerator[dict[str, Tensor], None]:
        if "describe" in inputs:
            await go_on.wait()
        async for each in stream_model(inputs):
            yield each

    triton.models[STREAM_MODEL].respond_stream = think
    request = {"prompt": "a house", "stream": True, "size": "64x64"}
    async with caller.stream("POST", GENERATIONS, json=request) as response:
        events = events_of(response)
        assert await anext(events) == ReceivedEvent("", "ping")
        go_on.set()
        assert [each.name async for each in events if each.name] == ["image_generation.completed"]


async def test_events_of_a_waiting_job_have_heartbeats(
    triton: FakeTriton, tmp_path: Path, body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dbos_queue, "_POLL_S", 0.02)
    app = app_of(triton, Settings(**SOON, jobs_folder=str(tmp_path)))  # type: ignore[arg-type]
    async with listening(app) as client, busy(app) as free:
        job = (await client.post(PATH, json=body(), headers={"Prefer": "respond-async"})).headers["location"]
        async with client.stream("GET", f"{job}/events") as response:
            events = events_of(response)
            assert await anext(events) == ReceivedEvent("queued", {})
            assert [await anext(events) for _ in range(2)] == [ReceivedEvent("", "ping")] * 2
            free()
            assert [each.name async for each in events][-1] == "completed"


# ---- clients


async def test_openai_client_gets_only_events_that_it_knows(caller: httpx2.AsyncClient, app: TritonFrontend) -> None:
    url = f"{caller.base_url}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        async with busy(app):  # before the first response, so nothing estimates that it takes longer than that
            headers = {"X-Request-Timeout": "1"}
            stream = await client.images.generate(prompt="a house", stream=True, extra_headers=headers)
            with pytest.raises(openai.APIError, match="deadline passed while it waited") as caught:
                [event async for event in stream]
        assert caught.value.code == "deadline_exceeded"
        async with busy(app) as free:
            stream = await client.images.generate(prompt="a house", stream=True)  # returns after the head
            free()
            assert [event.type async for event in stream] == ["image_generation.completed"]


async def test_position_is_a_comment_under_v1(caller: httpx2.AsyncClient, app: TritonFrontend) -> None:
    body = {"prompt": "a house", "stream": True}
    async with busy(app) as free, caller.stream("POST", GENERATIONS, json=body) as response:
        events = events_of(response)
        assert await anext(events) == ReceivedEvent("", "queued position=1")
        free()
        assert [each.name async for each in events if each.name] == ["image_generation.completed"]


async def test_a1111_progress_reports_a_waiting_picture(caller: httpx2.AsyncClient, app: TritonFrontend) -> None:
    async def progress() -> dict[str, Any]:
        body: dict[str, Any] = (await caller.get("/sdapi/v1/progress")).json()
        return body

    async with busy(app) as free:
        drawing = asyncio.create_task(caller.post(TXT2IMG, json={"prompt": "a house"}))
        while (reported := await progress())["textinfo"] is None:
            pass
        assert reported["textinfo"] == "Waiting in the queue, at position 1"
        assert reported["progress"] == 0
        assert reported["state"]["job_count"] == 1
        free()
        assert (await drawing).status_code == 200
    assert (await progress())["textinfo"] is None


async def test_generate_shows_the_queue_and_a_late_error(
    caller: httpx2.AsyncClient, app: TritonFrontend, triton: FakeTriton
) -> None:
    async def reject(inputs: Tensors) -> AsyncGenerator[dict[str, Tensor], None]:
        raise OverloadedError("The engine's queue is full.", retry_after_s=3)
        yield {}

    async with aiohttp.ClientSession() as session:
        frontend = generate_client.Client(session, str(caller.base_url).rstrip("/"), PATH)
        async with busy(app) as free:
            events = frontend.draw({"prompt": "a house"}, picture())
            assert await anext(events) == Queued(1, None)
            free()
            received = [event async for event in events]
            assert [type(event) for event in received if not isinstance(event, Queued)] == [
                StepProgress,
                StepProgress,
                GeneratedPicture,
            ]
        triton.models[STREAM_MODEL].respond_stream = reject
        async with busy(app) as free:
            events = frontend.draw({"prompt": "a house"}, picture())
            assert isinstance(await anext(events), Queued)
            free()
            with pytest.raises(GenerateError, match=r"queue is full\. Try again in 3 s\."):
                [event async for event in events]


# ---- EventsResponse alone


async def test_stream_without_events_is_a_complete_response() -> None:
    async def nothing() -> AsyncGenerator[Event, None]:
        return
        yield PING

    client = Client()
    await client.get(EventsResponse(nothing(), heartbeat_interval_s=60))
    assert client.types == ["start", "body"]
    assert client.text == ""


async def test_error_during_the_first_heartbeat_keeps_the_response_valid() -> None:
    """It never sends a second head, and never an event before the head."""
    fails = asyncio.Event()

    async def failing() -> AsyncGenerator[Event, None]:
        await fails.wait()
        raise InferenceError("No.")
        yield PING

    for is_taken_first in (False, True):
        client = Client()
        client.takes.clear()
        fails.clear()
        asking = asyncio.create_task(client.get(EventsResponse(failing(), heartbeat_interval_s=0.001)))
        await client.is_offered.wait()
        if is_taken_first:
            client.takes.set()
            await asyncio.sleep(0)
        fails.set()
        if is_taken_first:
            await asking
            assert client.types.count("start") == 1
            assert client.types[0] == "start"
            assert client.text.count("event: error") == 1
            assert orjson.loads(client.text.rpartition("data: ")[2])["code"] == "inference_failed"
        else:
            with pytest.raises(InferenceError):
                await asking
            assert client.types == []  # the error handler sends the complete response


async def test_heartbeats_do_not_split_events() -> None:
    async def busy_stream() -> AsyncGenerator[Event, None]:
        for number in range(50):
            yield Event("response", orjson.dumps({"n": number}).decode())
            await asyncio.sleep(0.001)

    client = Client()
    await client.get(EventsResponse(busy_stream(), heartbeat_interval_s=0.001))
    blocks = client.text.removesuffix("\n\n").split("\n\n")
    events = [each for each in blocks if each != ": ping"]
    assert events == [f'event: response\ndata: {{"n":{number}}}' for number in range(50)]


def test_default_heartbeat_is_shorter_than_gateway_timeouts() -> None:
    assert Settings().event_heartbeat_s < 10
