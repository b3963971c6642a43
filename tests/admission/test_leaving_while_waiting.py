# SPDX-License-Identifier: Apache-2.0
"""On every way in, who leaves while waiting loses its place in the queue; what has begun is another matter."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.testing import FakeTriton
from support.scribble_app import MODEL, PATH, base64_picture
from support.scripted_stream_model import SSE, STREAM_MODEL, ScriptedStreamModel, app_of

PROMPT = {"prompt": "a red house"}
SCRIBBLE = {**PROMPT, "image": base64_picture()}
WAYS: dict[str, dict[str, Any]] = {
    "without a stream model": {"url": "/plain", "json": SCRIBBLE},
    "JSON": {"url": PATH, "json": SCRIBBLE},
    "a picture": {"url": PATH, "json": SCRIBBLE, "headers": {"Accept": "image/webp"}},
    "events": {"url": PATH, "json": SCRIBBLE, "headers": SSE},
    "OpenAI": {"url": "/v1/images/generations", "json": {**PROMPT, "n": 2}},
    "OpenAI, events": {"url": "/v1/images/generations", "json": {**PROMPT, "stream": True}},
    "A1111": {"url": "/sdapi/v1/txt2img", "json": {**PROMPT, "batch_size": 2}},
    "generated": {"url": f"/models/{MODEL}/infer", "json": {**SCRIBBLE, "conditioning_scale": 1.0}},
    "generated, events": {"url": f"/models/{STREAM_MODEL}/infer", "json": SCRIBBLE, "headers": SSE},
}


async def until(is_so: Callable[[], bool]) -> None:
    while not is_so():  # noqa: ASYNC110 (of what the app counts there is no event)
        await asyncio.sleep(0.001)


@pytest.fixture(params=[False, True], ids=["", "keeps running"])
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    return settings.model_copy(update={"keep_running_when_caller_leaves": request.param})


async def test_who_leaves_while_waiting_loses_its_place_in_the_queue(
    caller: httpx2.AsyncClient, app: TritonFrontend, triton: FakeTriton
) -> None:
    admission = app.services.admission.of(MODEL)
    for way, asked in WAYS.items():
        assert (await caller.post(**asked)).status_code == 200, way
        with await admission.slot(2):
            num_requests = len(triton.requests)
            asking = asyncio.create_task(caller.post(**asked))
            await until(lambda: admission.waiting == 1)
            asking.cancel()
            await until(lambda: admission.waiting == 0)
        assert admission.in_flight == 0, way
        assert len(triton.requests) == num_requests, way


async def test_work_that_has_begun_stops_when_its_caller_leaves_unless_a_setting_says_otherwise(
    caller: httpx2.AsyncClient,
    app: TritonFrontend,
    triton: FakeTriton,
    stream_model: ScriptedStreamModel,
    settings: Settings,
) -> None:
    for way in ("JSON", "events", "OpenAI", "OpenAI, events", "A1111", "generated, events"):
        triton.streams.clear()
        stream_model.has_request.clear()
        stream_model.go_on.clear()
        asking = asyncio.create_task(caller.post(**WAYS[way]))
        await stream_model.has_request.wait()
        asking.cancel()
        if settings.keep_running_when_caller_leaves:
            assert (await caller.get("/health/live")).status_code == 200  # time for the leaving to be noticed
            assert app.services.admission.in_flight >= 1, way
            stream_model.go_on.set()
        await until(lambda: app.services.admission.in_flight == 0)
        assert any(stream.is_closed_early for stream in triton.streams) is not settings.keep_running_when_caller_leaves


async def test_who_waits_is_served_when_its_turn_comes(caller: httpx2.AsyncClient, app: TritonFrontend) -> None:
    admission = app.services.admission.of(MODEL)
    with await admission.slot(2):
        asking = [asyncio.create_task(caller.post(**each)) for each in list(WAYS.values())[:5]]
        await until(lambda: admission.waiting == 5)
        refused = await caller.post(**WAYS["JSON"])
        assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
        assert refused.headers["retry-after"] == "1"
    assert [(await each).status_code for each in asking] == [200] * 5
    assert (admission.in_flight, admission.waiting) == (0, 0)


async def test_what_is_refused_is_refused_before_its_body_is_read(triton: FakeTriton) -> None:
    app = app_of(triton, Settings(max_in_flight=1, max_waiting=0))
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        with await app.services.admission.of(MODEL).slot():
            for path in (PATH, "/v1/images/generations", "/sdapi/v1/txt2img"):
                assert (await client.post(path, content=b"no JSON")).status_code == 503
