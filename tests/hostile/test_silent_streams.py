# SPDX-License-Identifier: Apache-2.0
"""Streams that have nothing to report: their head and heartbeats go out all the same, with the position in the queue.

Gateways close a connection on which nothing comes for a minute or less.
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
# Nothing is begun while the only slot is taken.
SOON = {"max_in_flight": 1, "max_waiting": 2, "event_heartbeat_s": 0.02, "generate": True, "watch_interval_s": 3600}


class Counter:
    """A decoupled model that begins when a test lets it."""

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


async def next_other_than(told: AsyncIterator[ReceivedEvent], known: ReceivedEvent) -> ReceivedEvent:
    async for each in told:
        if each != known:
            return each
    raise AssertionError("The stream ended.")


# ---- waiting for a slot


async def test_a_stream_that_waits_shows_its_position_until_it_has_its_slot(
    caller: httpx2.AsyncClient, app: TritonFrontend, body: Body
) -> None:
    async with (
        busy(app) as free,
        caller.stream("POST", PATH, json=body(), headers=SSE) as first,
        caller.stream("POST", PATH, json=body(), headers=SSE) as second,
    ):
        assert first.status_code == second.status_code == 200
        ahead, behind = events_of(first), events_of(second)
        assert [await anext(ahead) for _ in range(2)] == [at(1)] * 2  # no estimate: nothing was answered yet
        assert [await anext(behind) for _ in range(2)] == [at(2)] * 2
        free()
        for stream, position in ((ahead, at(1)), (behind, at(2))):
            assert await next_other_than(stream, position) in (ReceivedEvent("queued", {}), at(1))
            assert [each.name async for each in stream][-1] == "completed"


async def test_a_model_that_has_answered_gives_an_estimate(
    caller: httpx2.AsyncClient, app: TritonFrontend, body: Body
) -> None:
    assert (await caller.post(PATH, json=body())).status_code == 200
    async with busy(app), caller.stream("POST", PATH, json=body(), headers=SSE) as answer:
        told = await anext(events_of(answer))
        assert (told.name, told.data["position"]) == ("queued", 1)
        assert told.data["estimated_wait_s"] >= 0


async def test_a_refusal_after_the_head_is_the_last_event(
    caller: httpx2.AsyncClient, app: TritonFrontend, body: Body
) -> None:
    headers = {**SSE, "X-Request-Timeout": "1", "X-Request-ID": "abc"}
    async with busy(app), caller.stream("POST", PATH, json=body(), headers=headers) as answer:
        assert answer.status_code == 200
        *waiting, last = [each async for each in events_of(answer)]
    assert set(map(str, waiting)) == {str(at(1))}
    assert (last.name, last.data["code"], last.data["status"]) == ("error", "deadline_exceeded", 504)
    assert last.data["request_id"] == "abc"
    assert app.services.admission.waiting == 0


async def test_a_refusal_before_the_head_keeps_its_status(
    caller: httpx2.AsyncClient, app: TritonFrontend, body: Body
) -> None:
    async with busy(app) as free:
        async with (
            caller.stream("POST", PATH, json=body(), headers=SSE) as first,
            caller.stream("POST", PATH, json=body(), headers=SSE) as second,
        ):
            for each in (first, second):
                await anext(events_of(each))
            refused = await caller.post(PATH, json=body(), headers=SSE)
        assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
        assert int(refused.headers["retry-after"]) >= 1
        assert "retry_after_s" not in refused.json()
        free()


async def test_a_client_that_leaves_the_queue_after_its_head_leaves_it_at_once(
    caller: httpx2.AsyncClient, app: TritonFrontend, triton: FakeTriton, body: Body
) -> None:
    async with busy(app):
        async with caller.stream("POST", PATH, json=body(), headers=SSE) as answer:
            assert await anext(events_of(answer)) == at(1)
            assert app.services.admission.waiting == 1
        while app.services.admission.waiting:  # noqa: ASYNC110 (nothing tells when the server has noticed)
            await asyncio.sleep(0)
    assert not triton.requests


@pytest.mark.parametrize("keeps_running", [False, True])
async def test_it_shows_its_position_whether_it_keeps_running_or_not(
    triton: FakeTriton, body: Body, *, keeps_running: bool
) -> None:
    app = app_of(triton, Settings(**SOON, keep_running_when_caller_leaves=keeps_running))  # type: ignore[arg-type]
    async with (
        listening(app) as client,
        busy(app) as free,
        client.stream("POST", PATH, json=body(), headers=SSE) as answer,
    ):
        told = events_of(answer)
        assert await anext(told) == at(1)
        free()
        assert [each.name async for each in told][-1] == "completed"


async def test_a_generated_endpoint_shows_the_same(
    caller: httpx2.AsyncClient, app: TritonFrontend, counter: Counter
) -> None:
    async with busy(app, "count") as free, caller.stream("POST", COUNT, json={"n": 1}) as answer:
        told = events_of(answer)
        assert [await anext(told) for _ in range(2)] == [at(1)] * 2
        free()
        await counter.has_request.wait()
        assert await next_other_than(told, at(1)) == ReceivedEvent(
            "", "ping"
        )  # it has its slot, and the model is silent
        counter.go_on.set()
        assert [each async for each in told if each.name] == [
            ReceivedEvent("response", {"n": 1}),
            ReceivedEvent("completed", {"num_responses": 1}),
        ]


# ---- other reasons for silence


async def test_a_model_that_says_nothing_at_all_is_no_reason_for_silence(
    caller: httpx2.AsyncClient, triton: FakeTriton, body: Body
) -> None:
    go_on = asyncio.Event()

    async def think(inputs: Tensors) -> AsyncGenerator[dict[str, Tensor], None]:
        await go_on.wait()
        raise OverloadedError("The engine's queue is full.", retry_after_s=2.5)
        yield {}

    triton.models[STREAM_MODEL].respond_stream = think
    async with caller.stream("POST", PATH, json=body(), headers=SSE) as answer:
        assert answer.status_code == 200
        told = events_of(answer)
        assert [await anext(told) for _ in range(2)] == [ReceivedEvent("", "ping")] * 2
        go_on.set()
        last = [each async for each in told][-1]
    assert (last.name, last.data["code"], last.data["retry_after_s"]) == ("error", "overloaded", 3)


async def test_a_model_that_is_slow_to_describe_itself_is_none_either(
    caller: httpx2.AsyncClient, triton: FakeTriton, stream_model: ScriptedStreamModel
) -> None:
    go_on = asyncio.Event()

    async def think(inputs: Tensors) -> AsyncGenerator[dict[str, Tensor], None]:
        if "describe" in inputs:
            await go_on.wait()
        async for each in stream_model(inputs):
            yield each

    triton.models[STREAM_MODEL].respond_stream = think
    asked = {"prompt": "a house", "stream": True, "size": "64x64"}
    async with caller.stream("POST", GENERATIONS, json=asked) as answer:
        told = events_of(answer)
        assert await anext(told) == ReceivedEvent("", "ping")
        go_on.set()
        assert [each.name async for each in told if each.name] == ["image_generation.completed"]


async def test_a_job_that_waits_is_followed_by_heartbeats(
    triton: FakeTriton, tmp_path: Path, body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dbos_queue, "_POLL_S", 0.02)
    app = app_of(triton, Settings(**SOON, jobs_folder=str(tmp_path)))  # type: ignore[arg-type]
    async with listening(app) as client, busy(app) as free:
        job = (await client.post(PATH, json=body(), headers={"Prefer": "respond-async"})).headers["location"]
        async with client.stream("GET", f"{job}/events") as answer:
            told = events_of(answer)
            assert await anext(told) == ReceivedEvent("queued", {})
            assert [await anext(told) for _ in range(2)] == [ReceivedEvent("", "ping")] * 2
            free()
            assert [each.name async for each in told][-1] == "completed"


# ---- clients


async def test_openais_client_sees_no_event_that_it_does_not_know(
    caller: httpx2.AsyncClient, app: TritonFrontend
) -> None:
    url = f"{caller.base_url}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        async with busy(app) as free:
            stream = await client.images.generate(prompt="a house", stream=True)  # returns with the head
            free()
            assert [event.type async for event in stream] == ["image_generation.completed"]
        async with busy(app):
            headers = {"X-Request-Timeout": "1"}
            stream = await client.images.generate(prompt="a house", stream=True, extra_headers=headers)
            with pytest.raises(openai.APIError, match="before it was its turn") as caught:
                [event async for event in stream]
    assert caught.value.code == "deadline_exceeded"


async def test_under_v1_the_position_is_a_comment(caller: httpx2.AsyncClient, app: TritonFrontend) -> None:
    body = {"prompt": "a house", "stream": True}
    async with busy(app) as free, caller.stream("POST", GENERATIONS, json=body) as answer:
        told = events_of(answer)
        assert await anext(told) == ReceivedEvent("", "queued position=1")
        free()
        assert [each.name async for each in told if each.name] == ["image_generation.completed"]


async def test_a1111s_progress_says_that_a_picture_waits(caller: httpx2.AsyncClient, app: TritonFrontend) -> None:
    async def ask() -> dict[str, Any]:
        told: dict[str, Any] = (await caller.get("/sdapi/v1/progress")).json()
        return told

    async with busy(app) as free:
        drawing = asyncio.create_task(caller.post(TXT2IMG, json={"prompt": "a house"}))
        while (told := await ask())["textinfo"] is None:
            pass
        assert told["textinfo"] == "Waiting in the queue, at position 1"
        assert told["progress"] == 0
        assert told["state"]["job_count"] == 1
        free()
        assert (await drawing).status_code == 200
    assert (await ask())["textinfo"] is None


async def test_the_command_line_follows_the_queue_and_tells_a_late_refusal(
    caller: httpx2.AsyncClient, app: TritonFrontend, triton: FakeTriton
) -> None:
    async def refuse(inputs: Tensors) -> AsyncGenerator[dict[str, Tensor], None]:
        raise OverloadedError("The engine's queue is full.", retry_after_s=3)
        yield {}

    async with aiohttp.ClientSession() as session:
        frontend = generate_client.Client(session, str(caller.base_url).rstrip("/"), PATH)
        async with busy(app) as free:
            events = frontend.draw({"prompt": "a house"}, picture())
            assert await anext(events) == Queued(1, None)
            free()
            told = [event async for event in events]
            assert [type(event) for event in told if not isinstance(event, Queued)] == [
                StepProgress,
                StepProgress,
                GeneratedPicture,
            ]
        triton.models[STREAM_MODEL].respond_stream = refuse
        async with busy(app) as free:
            events = frontend.draw({"prompt": "a house"}, picture())
            assert isinstance(await anext(events), Queued)
            free()
            with pytest.raises(GenerateError, match=r"queue is full\. Try again in 3 s\."):
                [event async for event in events]


# ---- the response by itself


async def test_a_stream_without_events_is_a_whole_response() -> None:
    async def nothing() -> AsyncGenerator[Event, None]:
        return
        yield PING

    client = Client()
    await client.get(EventsResponse(nothing(), heartbeat_interval_s=60))
    assert client.types == ["start", "body"]
    assert client.text == ""


async def test_an_error_while_the_first_heartbeat_goes_out_comes_after_the_head_or_without_it() -> None:
    """Never a second head, and never an event before the head."""
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
            assert client.types == []  # a handler of errors sends the whole response


async def test_heartbeats_do_not_part_events() -> None:
    async def busy_stream() -> AsyncGenerator[Event, None]:
        for number in range(50):
            yield Event("response", orjson.dumps({"n": number}).decode())
            await asyncio.sleep(0.001)

    client = Client()
    await client.get(EventsResponse(busy_stream(), heartbeat_interval_s=0.001))
    blocks = client.text.removesuffix("\n\n").split("\n\n")
    events = [each for each in blocks if each != ": ping"]
    assert events == [f'event: response\ndata: {{"n":{number}}}' for number in range(50)]


def test_the_default_is_below_what_gateways_wait() -> None:
    assert Settings().event_heartbeat_s < 10
