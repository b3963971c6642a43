# SPDX-License-Identifier: Apache-2.0
"""`X-Request-Timeout`: what is no time, what the model is told of it, and what happens when it is over."""

import asyncio
import json
import threading
from collections.abc import AsyncGenerator

import httpx2
import numpy as np
import pytest
from test_leaving_while_waiting import WAYS, until

import main
from fastapi_triton import BlockingInfer, Infer, Settings, TritonFrontend
from fastapi_triton.testing import FakeTriton
from fastapi_triton.triton.client import Tensors
from fastapi_triton.triton.tensor import Tensor
from support.app_on_socket import listening
from support.received_events import events_of
from support.scribble_app import MODEL, PATH, bytes_tensor, paint
from support.scripted_stream_model import SSE, STREAM_MODEL, Body, ScriptedStreamModel, events_for
from support.slot_requests import PLAIN

SOON = {"X-Request-Timeout": "0.05"}


async def test_what_is_no_time_is_refused_by_name(caller: httpx2.AsyncClient, body: Body) -> None:
    for value in ("", "0", "0.0", "-1", "1e3", "nan", "inf", "5s", "1,5", "1.2.3", "+1", "9" * 30):
        answer = await caller.post(PATH, json=body(), headers={"X-Request-Timeout": value})
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_timeout"), value
        assert "X-Request-Timeout" in answer.json()["detail"]
    told = await caller.post(**(WAYS["OpenAI"] | {"headers": {"X-Request-Timeout": value}}))
    assert (told.status_code, told.json()["error"]["code"]) == (400, "invalid_timeout")
    assert (await caller.get("/health/live", headers={"X-Request-Timeout": value})).status_code == 200


@pytest.mark.parametrize(("header", "most"), [("20.5", 20.5), ("9999", 300.0), (None, 300.0)])
async def test_the_model_is_told_what_is_left(
    caller: httpx2.AsyncClient, triton: FakeTriton, header: str | None, most: float
) -> None:
    for way, asked in WAYS.items():
        headers = {**asked.get("headers", {}), **({"X-Request-Timeout": header} if header else {})}
        assert (await caller.post(**(asked | {"headers": headers}))).status_code == 200, way
    assert len(triton.requests) >= len(WAYS)
    for _, inputs, _ in triton.requests:
        if "describe" not in inputs:
            told = inputs["timeout_s"].array
            assert told.dtype == np.float32
            assert most - 15 < told.item() <= most


async def test_a_batch_is_told_row_by_row(caller: httpx2.AsyncClient, triton: FakeTriton) -> None:
    row = WAYS["generated"]["json"]
    await caller.post(WAYS["generated"]["url"], json=[row, row])
    assert triton.requests[0][1]["timeout_s"].array.shape == (2, 1)


async def test_what_the_caller_says_itself_stays(caller: httpx2.AsyncClient, triton: FakeTriton) -> None:
    asked = WAYS["generated"]
    await caller.post(asked["url"], json={**asked["json"], "timeout_s": 1234.5})
    assert triton.requests[0][1]["timeout_s"].array.item() == 1234.5


async def test_a_deadline_that_passes_while_waiting_is_504(caller: httpx2.AsyncClient, app: TritonFrontend) -> None:
    admission = app.services.admission.of(MODEL)
    with await admission.slot(2):
        for way in ("without a stream model", "JSON", "events", "OpenAI", "generated"):
            headers = {**WAYS[way].get("headers", {}), **SOON}
            answer = await caller.post(**(WAYS[way] | {"headers": headers}))
            assert answer.status_code == 504
            assert "deadline_exceeded" in answer.text
        assert admission.waiting == 0
    assert admission.in_flight == 0
    assert admission.refused["deadline_exceeded"] == 5


async def test_a_plain_infer_that_is_too_late_is_504_and_keeps_its_place_until_triton_is_done(
    caller: httpx2.AsyncClient, app: TritonFrontend, triton: FakeTriton, body: Body
) -> None:
    go_on = asyncio.Event()

    async def wait(inputs: Tensors) -> dict[str, Tensor]:
        await go_on.wait()
        return await paint(inputs)

    triton.models[MODEL].respond = wait
    triton.request_timeout_s = 0.01
    for path in (PLAIN, f"/models/{MODEL}/infer"):
        answer = await caller.post(path, json=body(conditioning_scale=1.0))
        assert (answer.status_code, answer.json()["code"]) == (504, "deadline_exceeded")
    assert app.services.admission.in_flight == 2
    go_on.set()
    await until(lambda: app.services.admission.in_flight == 0)


async def test_a_stream_that_is_too_late_is_closed(
    caller: httpx2.AsyncClient, app: TritonFrontend, triton: FakeTriton, stream_model: ScriptedStreamModel, body: Body
) -> None:
    stream_model.go_on.clear()
    triton.request_timeout_s = 0.05
    answer = await caller.post(PATH, json=body())
    assert (answer.status_code, answer.json()["code"]) == (504, "deadline_exceeded")
    async with caller.stream("POST", PATH, json=body(), headers=SSE) as told:
        last = [event async for event in events_of(told)][-1]
    assert (last.name, last.data["code"]) == ("error", "deadline_exceeded")
    await asyncio.gather(*(stream.ended.wait() for stream in triton.streams))
    assert app.services.admission.in_flight == 0


async def test_a_function_that_is_too_late_is_504_and_a_thread_keeps_its_place_until_it_has_ended(
    triton: FakeTriton, settings: Settings
) -> None:
    app = TritonFrontend(triton=triton, settings=settings)
    may_end = threading.Event()

    @app.infer("/async", model=MODEL)
    async def endless(
        request: main.ScribbleRequest, infer: Infer[main.ScribbleRequest, main.ScribbleResponse]
    ) -> main.ScribbleResponse:
        await asyncio.Event().wait()
        raise AssertionError("never")

    @app.infer("/thread", model=MODEL)
    def blocked(
        request: main.ScribbleRequest, infer: BlockingInfer[main.ScribbleRequest, main.ScribbleResponse]
    ) -> main.ScribbleResponse:
        may_end.wait(30)
        return infer(request)

    async with listening(app) as caller:
        for path, in_flight in (("/async", 0), ("/thread", 1)):
            answer = await caller.post(path, json=WAYS["JSON"]["json"], headers={"X-Request-Timeout": "0.5"})
            assert (answer.status_code, answer.json()["code"]) == (504, "deadline_exceeded")
            assert app.services.admission.in_flight == in_flight
        may_end.set()
        await until(lambda: app.services.admission.in_flight == 0)
    assert triton.requests == []  # what came late began nothing


async def test_a_place_is_free_a_step_after_the_stream_was_closed(
    caller: httpx2.AsyncClient, app: TritonFrontend, triton: FakeTriton, stream_model: ScriptedStreamModel, body: Body
) -> None:
    """Nothing tells when the model has noticed; it looks between two steps."""
    assert [event.name for event in await events_for(caller, body())][-1] == "completed"
    steps = app.endpoints[0].stream.step_s  # type: ignore[union-attr]
    assert steps.value is not None
    steps.value = 0.2
    is_closed = asyncio.Event()

    async def respond(inputs: Tensors) -> AsyncGenerator[dict[str, Tensor], None]:
        yield {"event": bytes_tensor(b"queued")}
        try:
            await asyncio.Event().wait()
        finally:
            assert app.services.admission.in_flight == 1
            is_closed.set()

    triton.models[STREAM_MODEL].respond_stream = respond
    asking = asyncio.create_task(caller.post(PATH, json=body()))
    await until(lambda: app.services.admission.in_flight == 1)
    asking.cancel()
    await is_closed.wait()
    await asyncio.sleep(0)
    assert app.services.admission.in_flight == 1
    await until(lambda: app.services.admission.in_flight == 0)


async def test_a_refusal_tells_what_it_would_take(caller: httpx2.AsyncClient, app: TritonFrontend, body: Body) -> None:
    admission = app.services.admission.of(MODEL)
    admission.times.ended(0.0, service_s=30.0, was_full=False)
    with await admission.slot(2):
        answer = await caller.post(PATH, json=body(), headers={"X-Request-Timeout": "12"})
    assert (answer.status_code, answer.json()["code"]) == (503, "deadline_out_of_reach")
    assert int(answer.headers["retry-after"]) > 12
    assert json.loads(answer.text)["detail"].startswith("A response would take about")
