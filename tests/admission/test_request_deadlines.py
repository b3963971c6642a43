# SPDX-License-Identifier: Apache-2.0
"""`X-Request-Timeout`: invalid values, the time that the model gets, and responses after the deadline."""

import asyncio
import json
import threading
from collections.abc import AsyncGenerator

import httpx2
import numpy as np
import pytest
from test_leaving_while_waiting import REQUESTS, until

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


async def test_an_invalid_timeout_is_rejected_with_the_name_of_the_header(
    caller: httpx2.AsyncClient, body: Body
) -> None:
    for value in ("", "0", "0.0", "-1", "1e3", "nan", "inf", "5s", "1,5", "1.2.3", "+1", "9" * 30):
        response = await caller.post(PATH, json=body(), headers={"X-Request-Timeout": value})
        assert (response.status_code, response.json()["code"]) == (400, "invalid_timeout"), value
        assert "X-Request-Timeout" in response.json()["detail"]
    response = await caller.post(**(REQUESTS["OpenAI"] | {"headers": {"X-Request-Timeout": value}}))
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_timeout")
    assert (await caller.get("/health/live", headers={"X-Request-Timeout": value})).status_code == 200


@pytest.mark.parametrize(("header", "most"), [("20.5", 20.5), ("9999", 300.0), (None, 300.0)])
async def test_the_model_gets_the_remaining_time(
    caller: httpx2.AsyncClient, triton: FakeTriton, header: str | None, most: float
) -> None:
    for name, request in REQUESTS.items():
        headers = {**request.get("headers", {}), **({"X-Request-Timeout": header} if header else {})}
        assert (await caller.post(**(request | {"headers": headers}))).status_code == 200, name
    assert len(triton.requests) >= len(REQUESTS)
    for _, inputs, _ in triton.requests:
        if "describe" not in inputs:
            timeout_s = inputs["timeout_s"].array
            assert timeout_s.dtype == np.float32
            assert most - 15 < timeout_s.item() <= most


async def test_each_row_of_a_batch_gets_the_remaining_time(caller: httpx2.AsyncClient, triton: FakeTriton) -> None:
    row = REQUESTS["generated"]["json"]
    await caller.post(REQUESTS["generated"]["url"], json=[row, row])
    assert triton.requests[0][1]["timeout_s"].array.shape == (2, 1)


async def test_a_timeout_in_the_request_is_not_replaced(caller: httpx2.AsyncClient, triton: FakeTriton) -> None:
    request = REQUESTS["generated"]
    await caller.post(request["url"], json={**request["json"], "timeout_s": 1234.5})
    assert triton.requests[0][1]["timeout_s"].array.item() == 1234.5


async def test_a_deadline_that_passes_while_waiting_is_504(caller: httpx2.AsyncClient, app: TritonFrontend) -> None:
    admission = app.services.admission.of(MODEL)
    with await admission.slot(2):
        for name in ("without a stream model", "JSON", "events", "OpenAI", "generated"):
            headers = {**REQUESTS[name].get("headers", {}), **SOON}
            response = await caller.post(**(REQUESTS[name] | {"headers": headers}))
            assert response.status_code == 504
            assert "deadline_exceeded" in response.text
        assert admission.waiting == 0
    assert admission.in_flight == 0
    assert admission.refused["deadline_exceeded"] == 5


async def test_plain_inference_after_the_deadline_is_504_and_keeps_its_slot_until_triton_has_finished(
    caller: httpx2.AsyncClient, app: TritonFrontend, triton: FakeTriton, body: Body
) -> None:
    go_on = asyncio.Event()

    async def wait(inputs: Tensors) -> dict[str, Tensor]:
        await go_on.wait()
        return await paint(inputs)

    triton.models[MODEL].respond = wait
    triton.request_timeout_s = 0.01
    for path in (PLAIN, f"/models/{MODEL}/infer"):
        response = await caller.post(path, json=body(conditioning_scale=1.0))
        assert (response.status_code, response.json()["code"]) == (504, "deadline_exceeded")
    assert app.services.admission.in_flight == 2
    go_on.set()
    await until(lambda: app.services.admission.in_flight == 0)


async def test_a_stream_is_closed_at_its_deadline(
    caller: httpx2.AsyncClient, app: TritonFrontend, triton: FakeTriton, stream_model: ScriptedStreamModel, body: Body
) -> None:
    stream_model.go_on.clear()
    triton.request_timeout_s = 0.05
    response = await caller.post(PATH, json=body())
    assert (response.status_code, response.json()["code"]) == (504, "deadline_exceeded")
    async with caller.stream("POST", PATH, json=body(), headers=SSE) as response:
        last = [event async for event in events_of(response)][-1]
    assert (last.name, last.data["code"]) == ("error", "deadline_exceeded")
    await asyncio.gather(*(stream.ended.wait() for stream in triton.streams))
    assert app.services.admission.in_flight == 0


async def test_a_function_after_the_deadline_is_504_and_a_thread_keeps_its_slot_until_it_ends(
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
            response = await caller.post(path, json=REQUESTS["JSON"]["json"], headers={"X-Request-Timeout": "0.5"})
            assert (response.status_code, response.json()["code"]) == (504, "deadline_exceeded")
            assert app.services.admission.in_flight == in_flight
        may_end.set()
        await until(lambda: app.services.admission.in_flight == 0)
    assert triton.requests == []  # after the deadline no request is sent


async def test_a_slot_is_free_one_step_after_the_stream_was_closed(
    caller: httpx2.AsyncClient, app: TritonFrontend, triton: FakeTriton, stream_model: ScriptedStreamModel, body: Body
) -> None:
    """The model notices the closed stream between two steps, and does not report when."""
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
    task = asyncio.create_task(caller.post(PATH, json=body()))
    await until(lambda: app.services.admission.in_flight == 1)
    task.cancel()
    await is_closed.wait()
    await asyncio.sleep(0)
    assert app.services.admission.in_flight == 1
    await until(lambda: app.services.admission.in_flight == 0)


async def test_the_error_for_an_unreachable_deadline_has_the_estimated_time(
    caller: httpx2.AsyncClient, app: TritonFrontend, body: Body
) -> None:
    admission = app.services.admission.of(MODEL)
    admission.times.ended(0.0, service_s=30.0, was_full=False)
    with await admission.slot(2):
        response = await caller.post(PATH, json=body(), headers={"X-Request-Timeout": "12"})
    assert (response.status_code, response.json()["code"]) == (503, "deadline_out_of_reach")
    assert int(response.headers["retry-after"]) > 12
    assert json.loads(response.text)["detail"].startswith("A response would take about")
