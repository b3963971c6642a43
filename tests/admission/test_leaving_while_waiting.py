# SPDX-License-Identifier: Apache-2.0
"""On every route, a client that disconnects leaves the queue, and stops running work unless a setting keeps it."""

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
REQUESTS: dict[str, dict[str, Any]] = {
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


async def until(is_true: Callable[[], bool]) -> None:
    while not is_true():  # noqa: ASYNC110 (no event for a change of the app's counts)
        await asyncio.sleep(0.001)


@pytest.fixture(params=[False, True], ids=["", "keeps running"])
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    return settings.model_copy(update={"keep_running_when_caller_leaves": request.param})


async def test_a_disconnect_removes_a_waiting_request_from_the_queue(
    caller: httpx2.AsyncClient, app: TritonFrontend, triton: FakeTriton
) -> None:
    admission = app.services.admission.of(MODEL)
    for name, request in REQUESTS.items():
        assert (await caller.post(**request)).status_code == 200, name
        with await admission.slot(2):
            num_requests = len(triton.requests)
            task = asyncio.create_task(caller.post(**request))
            await until(lambda: admission.waiting == 1)
            task.cancel()
            await until(lambda: admission.waiting == 0)
        assert admission.in_flight == 0, name
        assert len(triton.requests) == num_requests, name


async def test_a_disconnect_stops_running_work_unless_a_setting_keeps_it(
    caller: httpx2.AsyncClient,
    app: TritonFrontend,
    triton: FakeTriton,
    stream_model: ScriptedStreamModel,
    settings: Settings,
) -> None:
    for name in ("JSON", "events", "OpenAI", "OpenAI, events", "A1111", "generated, events"):
        triton.streams.clear()
        stream_model.has_request.clear()
        stream_model.go_on.clear()
        task = asyncio.create_task(caller.post(**REQUESTS[name]))
        await stream_model.has_request.wait()
        task.cancel()
        if settings.keep_running_when_caller_leaves:
            assert (await caller.get("/health/live")).status_code == 200  # time to notice the disconnect
            assert app.services.admission.in_flight >= 1, name
            stream_model.go_on.set()
        await until(lambda: app.services.admission.in_flight == 0)
        assert any(stream.is_closed_early for stream in triton.streams) is not settings.keep_running_when_caller_leaves


async def test_waiting_requests_succeed_when_slots_are_free(caller: httpx2.AsyncClient, app: TritonFrontend) -> None:
    admission = app.services.admission.of(MODEL)
    with await admission.slot(2):
        tasks = [asyncio.create_task(caller.post(**each)) for each in list(REQUESTS.values())[:5]]
        await until(lambda: admission.waiting == 5)
        rejected = await caller.post(**REQUESTS["JSON"])
        assert (rejected.status_code, rejected.json()["code"]) == (503, "overloaded")
        assert rejected.headers["retry-after"] == "1"
    assert [(await each).status_code for each in tasks] == [200] * 5
    assert (admission.in_flight, admission.waiting) == (0, 0)


async def test_without_a_free_slot_a_request_is_rejected_before_its_body_is_read(triton: FakeTriton) -> None:
    app = app_of(triton, Settings(max_in_flight=1, max_waiting=0))
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        with await app.services.admission.of(MODEL).slot():
            for path in (PATH, "/v1/images/generations", "/sdapi/v1/txt2img"):
                assert (await client.post(path, content=b"no JSON")).status_code == 503
