# SPDX-License-Identifier: Apache-2.0
"""A client learns its position for the whole way: in the queue for a slot, and in the model's own queue."""

import asyncio

import httpx2
import numpy as np
import pytest

from fastapi_triton import TritonFrontend
from fastapi_triton.admission.fair_queue import QueuePosition, QueueTicket
from fastapi_triton.admission.limiter import Admission
from fastapi_triton.core.context import Caller, current_caller
from fastapi_triton.core.settings import Settings
from fastapi_triton.endpoints.pipeline import RequestPipeline
from fastapi_triton.triton.datatypes import BY_WIRE
from fastapi_triton.triton.model_config import ModelConfig
from fastapi_triton.triton.tensor import Tensor
from support.received_events import events_of
from support.scribble_app import MODEL, PATH
from support.scripted_stream_model import SSE, Body, ScriptedStreamModel
from support.slot_requests import Clock, request_slot, served, settled


async def test_queued_events_have_the_position_in_the_models_queue(
    client: httpx2.AsyncClient, stream_model: ScriptedStreamModel, body: Body
) -> None:
    stream_model.positions = [2, 1]
    async with client.stream("POST", PATH, json=body(), headers=SSE) as response:
        events = [each async for each in events_of(response)]
    assert [each.data for each in events if each.name == "queued"] == [
        {"position": 2, "estimated_wait_s": 4.7, "estimated_total_s": 9.0},
        {"position": 1, "estimated_wait_s": 2.3, "estimated_total_s": 9.0},
    ]


async def test_the_queue_for_a_slot_counts_the_requests_that_wait_in_the_models_queue(
    client: httpx2.AsyncClient, app: TritonFrontend, stream_model: ScriptedStreamModel, body: Body
) -> None:
    stream_model.positions = [3]
    stream_model.go_on.clear()
    held = asyncio.create_task(client.post(PATH, json=body()))
    await stream_model.has_request.wait()
    queue = app.services.admission.of(MODEL).model_queue
    while not queue.num_waiting:  # noqa: ASYNC110 (no event reports the app's counts)
        await asyncio.sleep(0)
    stream_model.go_on.set()
    assert (await held).status_code == 200
    assert queue.num_waiting == 0
    assert queue.wait_s > 0


async def test_a_request_that_leaves_the_models_queue_no_longer_counts(
    client: httpx2.AsyncClient, app: TritonFrontend, stream_model: ScriptedStreamModel, body: Body
) -> None:
    stream_model.positions = [3]
    stream_model.go_on.clear()
    held = asyncio.create_task(client.post(PATH, json=body()))
    queue = app.services.admission.of(MODEL).model_queue
    while not queue.num_waiting:  # noqa: ASYNC110 (no event reports the app's counts)
        await asyncio.sleep(0)
    held.cancel()
    await asyncio.wait([held])
    while queue.num_waiting:  # noqa: ASYNC110 (the same)
        await asyncio.sleep(0)
    assert queue.wait_s == 0  # it never began


async def test_a_position_and_its_times_cover_both_queues() -> None:
    clock = Clock()
    admission = Admission("m", 1, max_waiting=5, clock=clock)
    await served(admission, clock, 4.0)
    with admission.model_queue.followed() as wait:
        wait.begin()
        clock.now += 3.0
        wait.end(has_begun=True)
    ticket = QueueTicket()
    slot = await request_slot(admission)
    waiting = asyncio.create_task(admission.slot(ticket=ticket))
    await settled()
    with admission.model_queue.followed() as wait:
        wait.begin()
        assert ticket.position == QueuePosition(2, 4.0 + 3.0, 4.0 + 4.0)
        wait.begin()  # its position in the model's queue has changed
        assert ticket.position.position == 2
    assert ticket.position is not None
    assert ticket.position.position == 1
    slot.release()
    (await waiting).release()


@pytest.mark.parametrize(
    ("priority", "asked", "sent"),
    [
        ("interactive", None, None),
        ("interactive", b"batch", b"batch"),  # a client may lower its priority
        ("batch", None, b"batch"),
        ("batch", b"interactive", b"batch"),
    ],
)
def test_the_model_gets_the_priority_of_the_caller(
    scribble_config: ModelConfig, priority: str, asked: bytes | None, sent: bytes | None
) -> None:
    name = "queue_priority"
    inputs = {} if asked is None else {name: Tensor(BY_WIRE["BYTES"], np.array([[asked]], dtype=np.object_))}
    token = current_caller.set(Caller("key:a", priority=priority))  # type: ignore[arg-type]
    try:
        RequestPipeline(Settings()).add_own_inputs(inputs, scribble_config)
    finally:
        current_caller.reset(token)
    assert (inputs[name].array.ravel().tolist() if name in inputs else None) == (None if sent is None else [sent])
