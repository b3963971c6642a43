# SPDX-License-Identifier: Apache-2.0
"""Streams of a real Triton: events of a decoupled model reach the client, and a disconnect reaches the model."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from fastapi_triton.core.errors import (
    DeadlineExceededError,
    FastAPITritonError,
    InferenceError,
    InvalidRequestError,
    ModelNotReadyError,
    OverloadedError,
    TritonUnavailableError,
)
from fastapi_triton.triton.datatypes import BY_WIRE
from fastapi_triton.triton.http_client import HTTPTriton
from fastapi_triton.triton.tensor import Tensor
from fastapi_triton.triton.transport.connection import State
from support.received_events import ReceivedEvent, events_of
from support.serving import COUNT_APP, Server, free_port

pytestmark = pytest.mark.integration

MODEL = "count_stream"
SSE = {"Accept": "text/event-stream"}
NUM_CALLERS = 50  # as many as the app accepts at once


def inputs_of(text: str, **numbers: int) -> dict[str, Tensor]:
    tensors = {"text": Tensor.of_one(BY_WIRE["BYTES"], text.encode(), (1,))}
    return tensors | {name: Tensor(BY_WIRE["INT32"], np.array([value], np.int32)) for name, value in numbers.items()}


async def responses(triton: HTTPTriton, inputs: dict[str, Tensor], **options: str) -> list[dict[str, Any]]:
    """The outputs of each response of the model, as plain values."""
    async with aclosing(triton.stream(MODEL, inputs, **options)) as stream:
        return [{name: tensor.array.tolist() for name, tensor in outputs.items()} async for outputs in stream]


async def until(folder: Path, pattern: str, count: int = 1) -> None:
    """Wait until the model has written this many files."""

    def wait() -> None:
        while len(list(folder.glob(pattern))) < count:
            time.sleep(0.01)

    await asyncio.to_thread(wait)


@pytest.fixture
async def triton(count_server: Server) -> AsyncIterator[HTTPTriton]:
    async with HTTPTriton(f"http://{count_server.triton_url}") as client:
        yield client


@pytest.fixture
async def caller(count_server: Server) -> AsyncIterator[httpx2.AsyncClient]:
    limits = httpx2.Limits(max_connections=2 * NUM_CALLERS)
    async with httpx2.AsyncClient(base_url=count_server.url, timeout=120, limits=limits) as client:
        yield client


async def events_for(caller: httpx2.AsyncClient, **body: Any) -> list[ReceivedEvent]:
    async with caller.stream("POST", "/count", json=body, headers=SSE) as response:
        assert response.status_code == 200
        return [event async for event in events_of(response) if event.name]


async def num_running(triton: HTTPTriton) -> int:
    """The number of requests that the model runs at the moment."""
    described = await responses(triton, {"describe": Tensor(BY_WIRE["BOOL"], np.array([True]))})
    return int(described[0]["info"][0].split(b'"num_running": ')[1].split(b",")[0])


# ---- the client


async def test_responses_have_the_tensors_of_the_models_config(triton: HTTPTriton) -> None:
    inputs = inputs_of("echo hä🏠", num_steps=2, size=3, preview_every=2)
    inputs["seed"] = Tensor(BY_WIRE["INT64"], np.array([2**62 + 1], np.int64))
    inputs["scales"] = Tensor(BY_WIRE["FP32"], np.array([0.1, 1e-7, 3.0], np.float32))
    assert await responses(triton, inputs, request_id="abc") == [
        {"event": [b"queued"]},
        {"event": [b"progress"], "step": [1], "num_steps": [2]},
        {"event": [b"progress"], "step": [2], "num_steps": [2], "preview": [b"ppp"]},
        {
            "event": [b"completed"],
            "text": ["hä🏠ppp".encode()],
            "info": [b'{"preview_every": 2, "request_id": "abc"}'],
            "seed": [2**62 + 1],
            "scales": np.array([0.1, 1e-7, 3.0], np.float32).tolist(),
        },
    ]


async def test_megabytes_arrive_intact_in_both_directions(triton: HTTPTriton) -> None:
    text = "ä🏠x" * 500_000
    outputs = await responses(triton, inputs_of(f"echo {text}", num_steps=2, size=5_000_000, preview_every=1))
    assert [each["preview"][0] for each in outputs[1:3]] == [b"p" * 5_000_000] * 2
    assert outputs[-1]["text"][0].decode() == text + "p" * 5_000_000


async def test_each_event_arrives_before_the_next_is_sent(triton: HTTPTriton, tmp_path: Path) -> None:
    async with aclosing(triton.stream(MODEL, inputs_of(f"hold {tmp_path}"))) as stream:
        assert (await anext(stream))["event"].array.tolist() == [b"queued"]
        (tmp_path / "go").touch()
        assert [each["event"].array.item() async for each in stream][-1] == b"completed"


@pytest.mark.parametrize(
    ("text", "kind", "code"),
    [
        ("refuse unsupported_size", InvalidRequestError, "unsupported_size"),
        ("refuse queue_full", OverloadedError, "queue_full"),
        ("refuse deadline_exceeded", DeadlineExceededError, "deadline_exceeded"),
        ("late_fail", InferenceError, "generation_failed"),
        ("fail", InferenceError, "inference_failed"),
    ],
)
async def test_model_errors_become_the_right_exceptions(
    triton: HTTPTriton, text: str, kind: type[FastAPITritonError], code: str
) -> None:
    with pytest.raises(kind) as failed:
        await responses(triton, inputs_of(text))
    assert failed.value.code == code
    assert "secret" not in failed.value.detail
    if text.startswith("refuse"):
        assert failed.value.problems[0].pointer == "#/text"
        assert failed.value.retry_after_s == 7


async def test_error_of_an_input_that_triton_cannot_convert_has_tritons_text(triton: HTTPTriton) -> None:
    two = np.array([b"echo a", b"echo b"], np.object_)
    with pytest.raises(InvalidRequestError, match="text"):
        await responses(triton, {"text": Tensor(BY_WIRE["BYTES"], two)})


async def test_unknown_model_is_not_ready(triton: HTTPTriton) -> None:
    with pytest.raises(ModelNotReadyError):
        await anext(triton.stream("nope", {}))


async def test_closed_port_is_reported_as_triton_unavailable() -> None:
    async with HTTPTriton(f"http://127.0.0.1:{free_port()}") as client:
        with pytest.raises(TritonUnavailableError):
            await anext(client.stream(MODEL, {}))


async def test_deadline_cancels_the_stream_in_the_model(count_server: Server, tmp_path: Path) -> None:
    async with HTTPTriton(f"http://{count_server.triton_url}", request_timeout_s=0.3) as client:
        with pytest.raises(DeadlineExceededError):
            await responses(client, inputs_of(f"hold {tmp_path}"), request_id="late")
    await until(tmp_path, "left-late")


async def test_connection_is_reused_only_after_a_complete_stream(triton: HTTPTriton, tmp_path: Path) -> None:
    await responses(triton, inputs_of("echo a"))
    (kept,) = triton.pool._idle
    await responses(triton, inputs_of("echo b"))
    assert triton.pool._idle == [kept]
    async with aclosing(triton.stream(MODEL, inputs_of(f"hold {tmp_path}"), request_id="half")) as stream:
        await anext(stream)
    assert not triton.pool._idle
    assert kept.state is State.CLOSED
    await until(tmp_path, "left-half")


# ---- through the frontend


async def test_last_event_equals_the_plain_response(caller: httpx2.AsyncClient) -> None:
    events = await events_for(caller, text="echo hä🏠", num_steps=4, size=2)
    assert events[:-1] == [
        ReceivedEvent("queued", {}),
        *(ReceivedEvent("progress", {"step": step, "num_steps": 4, "preview": "pp"}) for step in (1, 2, 3, 4)),
    ]
    last = events[-1]
    assert (last.name, last.data["text"], last.data["info"]["preview_every"]) == ("completed", "hä🏠pp", 1)
    plain = await caller.post("/count", json={"text": "echo hä🏠", "size": 2})
    assert (plain.json()["text"], plain.json()["info"]["preview_every"]) == ("hä🏠pp", 0)


async def test_megabytes_pass_the_frontend_intact(caller: httpx2.AsyncClient) -> None:
    events = await events_for(caller, text="echo a", num_steps=2, size=3_000_000)
    assert events[2].data["preview"] == "p" * 3_000_000
    assert events[3].data["text"] == "a" + "p" * 3_000_000


async def test_error_has_a_status_before_the_first_event_and_is_an_event_after_it(
    caller: httpx2.AsyncClient,
) -> None:
    rejected = await caller.post("/count", json={"text": "refuse queue_full"}, headers=SSE)
    assert (rejected.status_code, rejected.headers["retry-after"], rejected.json()["code"]) == (503, "7", "queue_full")
    events = await events_for(caller, text="late_fail")
    assert (events[-1].name, events[-1].data["status"], events[-1].data["code"]) == ("error", 502, "generation_failed")
    plain = await caller.post("/count", json={"text": "late_fail"})
    assert (plain.status_code, plain.json()["code"]) == (502, "generation_failed")
    for text in ("break_off", "fail"):
        plain = await caller.post("/count", json={"text": text})
        assert (plain.status_code, plain.json()["code"]) == (502, "inference_failed")
        assert "secret" not in plain.text


async def test_disconnect_from_a_stream_cancels_the_request_in_the_model(
    caller: httpx2.AsyncClient, tmp_path: Path
) -> None:
    headers = SSE | {"X-Request-ID": "gone"}
    async with caller.stream("POST", "/count", json={"text": f"hold {tmp_path}"}, headers=headers) as response:
        assert (await anext(events_of(response))).name == "queued"
    await until(tmp_path, "left-gone")


async def test_disconnect_from_a_plain_request_cancels_it_in_the_model(
    count_server: Server, caller: httpx2.AsyncClient, tmp_path: Path
) -> None:
    running = asyncio.create_task(
        caller.post("/count", json={"text": f"hold {tmp_path}"}, headers={"X-Request-ID": "gone-plain"})
    )
    await until(tmp_path, "began-gone-plain")
    running.cancel()
    await until(tmp_path, "left-gone-plain")
    count_server.wait_for(r"the client disconnected; its request is cancelled \[gone-plain\]")


async def test_fifty_disconnects_free_all_slots_and_threads(
    caller: httpx2.AsyncClient, triton: HTTPTriton, tmp_path: Path
) -> None:
    tasks = [
        asyncio.create_task(caller.post("/count", json={"text": f"hold {tmp_path}"}, headers=SSE if number % 2 else {}))
        for number in range(NUM_CALLERS)
    ]
    await until(tmp_path, "began-*", NUM_CALLERS)
    assert await num_running(triton) == NUM_CALLERS
    # Every slot is taken: one more request waits, or fails at once because its deadline is too short.
    late = await caller.post("/count", json={"text": "echo a"}, headers={"X-Request-Timeout": "0.5"})
    assert late.json()["code"] in ("deadline_exceeded", "deadline_out_of_reach")
    for task in tasks:
        task.cancel()
    await until(tmp_path, "left-*", NUM_CALLERS)
    # Every slot is free again.
    streams = await asyncio.gather(*(events_for(caller, text=f"echo {number}") for number in range(NUM_CALLERS)))
    assert [each[-1].data["text"] for each in streams] == [str(number) for number in range(NUM_CALLERS)]
    while await num_running(triton):
        pass  # each poll is a round trip; the model's threads end right after their last response


async def test_death_of_triton_ends_the_stream_with_an_error_event(
    echo_servers: Callable[..., Server], tmp_path: Path
) -> None:
    server = echo_servers(folder=COUNT_APP).wait_until_ready()
    async with httpx2.AsyncClient(base_url=server.url, timeout=60) as client:
        async with client.stream("POST", "/count", json={"text": f"hold {tmp_path}"}, headers=SSE) as response:
            events = events_of(response)
            await anext(events)
            server.named("tritonserver").kill()
            (last,) = [event async for event in events]
        assert (last.name, last.data["code"]) == ("error", "triton_connection_lost")
        await asyncio.to_thread(server.wait_for, "ready again")
        assert (await client.post("/count", json={"text": "echo a"})).json()["text"] == "a"
        assert (await client.get("/count/describe")).status_code == 200


async def test_describe_and_readiness_use_the_stream_model(caller: httpx2.AsyncClient) -> None:
    assert (await caller.get("/count/describe")).json()["sizes"] == [[128, 128]]
    (state,) = (await caller.get("/health/ready")).json()["endpoints"]
    assert (state["stream_model"], state["ready"]) == (MODEL, True)
