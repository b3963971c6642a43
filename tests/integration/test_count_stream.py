# SPDX-License-Identifier: Apache-2.0
"""Streams on a real Triton: a decoupled model's events come through, and it learns of callers who leave."""

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
NUM_CALLERS = 50  # as many as the app takes at once


def say(text: str, **numbers: int) -> dict[str, Tensor]:
    tensors = {"text": Tensor.of_one(BY_WIRE["BYTES"], text.encode(), (1,))}
    return tensors | {name: Tensor(BY_WIRE["INT32"], np.array([value], np.int32)) for name, value in numbers.items()}


async def responses(triton: HTTPTriton, inputs: dict[str, Tensor], **options: str) -> list[dict[str, Any]]:
    """What each response of the model holds, as plain values."""
    async with aclosing(triton.stream(MODEL, inputs, **options)) as stream:
        return [{name: tensor.array.tolist() for name, tensor in outputs.items()} async for outputs in stream]


async def until(folder: Path, pattern: str, count: int = 1) -> None:
    """The model has written so many of these files."""

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
    async with caller.stream("POST", "/count", json=body, headers=SSE) as answer:
        assert answer.status_code == 200
        return [event async for event in events_of(answer) if event.name]


async def num_running(triton: HTTPTriton) -> int:
    """How many requests the model has at this moment."""
    described = await responses(triton, {"describe": Tensor(BY_WIRE["BOOL"], np.array([True]))})
    return int(described[0]["info"][0].split(b'"num_running": ')[1].split(b",")[0])


# ---- the client


async def test_every_response_comes_as_tensors_of_the_models_config(triton: HTTPTriton) -> None:
    inputs = say("echo hä🏠", num_steps=2, size=3, preview_every=2)
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


async def test_megabytes_in_and_out_come_through_intact(triton: HTTPTriton) -> None:
    text = "ä🏠x" * 500_000
    told = await responses(triton, say(f"echo {text}", num_steps=2, size=5_000_000, preview_every=1))
    assert [each["preview"][0] for each in told[1:3]] == [b"p" * 5_000_000] * 2
    assert told[-1]["text"][0].decode() == text + "p" * 5_000_000


async def test_no_event_waits_for_the_next(triton: HTTPTriton, tmp_path: Path) -> None:
    async with aclosing(triton.stream(MODEL, say(f"hold {tmp_path}"))) as stream:
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
async def test_a_models_words_become_the_right_error(
    triton: HTTPTriton, text: str, kind: type[FastAPITritonError], code: str
) -> None:
    with pytest.raises(kind) as failed:
        await responses(triton, say(text))
    assert failed.value.code == code
    assert "secret" not in failed.value.detail
    if text.startswith("refuse"):
        assert failed.value.problems[0].pointer == "#/text"
        assert failed.value.retry_after_s == 7


async def test_an_input_that_triton_cannot_convert_is_refused_in_its_words(triton: HTTPTriton) -> None:
    two = np.array([b"echo a", b"echo b"], np.object_)
    with pytest.raises(InvalidRequestError, match="text"):
        await responses(triton, {"text": Tensor(BY_WIRE["BYTES"], two)})


async def test_an_unknown_model_is_not_ready(triton: HTTPTriton) -> None:
    with pytest.raises(ModelNotReadyError):
        await anext(triton.stream("nope", {}))


async def test_a_port_where_nobody_listens_is_unavailable() -> None:
    async with HTTPTriton(f"http://127.0.0.1:{free_port()}") as client:
        with pytest.raises(TritonUnavailableError):
            await anext(client.stream(MODEL, {}))


async def test_no_end_in_time_is_a_deadline_that_the_model_learns_of(count_server: Server, tmp_path: Path) -> None:
    async with HTTPTriton(f"http://{count_server.triton_url}", request_timeout_s=0.3) as client:
        with pytest.raises(DeadlineExceededError):
            await responses(client, say(f"hold {tmp_path}"), request_id="late")
    await until(tmp_path, "left-late")


async def test_the_connection_is_used_again_after_a_whole_stream_and_closed_after_half_of_one(
    triton: HTTPTriton, tmp_path: Path
) -> None:
    await responses(triton, say("echo a"))
    (kept,) = triton.pool._idle
    await responses(triton, say("echo b"))
    assert triton.pool._idle == [kept]
    async with aclosing(triton.stream(MODEL, say(f"hold {tmp_path}"), request_id="half")) as stream:
        await anext(stream)
    assert not triton.pool._idle
    assert kept.state is State.CLOSED
    await until(tmp_path, "left-half")


# ---- through the frontend


async def test_events_through_the_frontend_and_the_plain_answer_are_the_same(caller: httpx2.AsyncClient) -> None:
    told = await events_for(caller, text="echo hä🏠", num_steps=4, size=2)
    assert told[:-1] == [
        ReceivedEvent("queued", {}),
        ReceivedEvent("progress", {"step": 1, "num_steps": 4}),
        ReceivedEvent("progress", {"step": 2, "num_steps": 4, "preview": "pp"}),
        ReceivedEvent("progress", {"step": 3, "num_steps": 4}),
        ReceivedEvent("progress", {"step": 4, "num_steps": 4, "preview": "pp"}),
    ]
    assert (told[-1].name, told[-1].data["text"], told[-1].data["info"]["preview_every"]) == ("completed", "hä🏠pp", 2)
    plain = await caller.post("/count", json={"text": "echo hä🏠", "size": 2})
    assert (plain.json()["text"], plain.json()["info"]["preview_every"]) == ("hä🏠pp", 0)


async def test_megabytes_come_through_the_frontend_intact(caller: httpx2.AsyncClient) -> None:
    told = await events_for(caller, text="echo a", num_steps=2, size=3_000_000)
    assert told[2].data["preview"] == "p" * 3_000_000
    assert told[3].data["text"] == "a" + "p" * 3_000_000


async def test_errors_before_the_first_event_have_a_status_and_later_ones_are_an_event(
    caller: httpx2.AsyncClient,
) -> None:
    refused = await caller.post("/count", json={"text": "refuse queue_full"}, headers=SSE)
    assert (refused.status_code, refused.headers["retry-after"], refused.json()["code"]) == (503, "7", "queue_full")
    told = await events_for(caller, text="late_fail")
    assert (told[-1].name, told[-1].data["status"], told[-1].data["code"]) == ("error", 502, "generation_failed")
    plain = await caller.post("/count", json={"text": "late_fail"})
    assert (plain.status_code, plain.json()["code"]) == (502, "generation_failed")
    for text in ("break_off", "fail"):
        plain = await caller.post("/count", json={"text": text})
        assert (plain.status_code, plain.json()["code"]) == (502, "inference_failed")
        assert "secret" not in plain.text


async def test_a_caller_of_events_who_leaves_is_noticed_by_the_model(
    caller: httpx2.AsyncClient, tmp_path: Path
) -> None:
    headers = SSE | {"X-Request-ID": "gone"}
    async with caller.stream("POST", "/count", json={"text": f"hold {tmp_path}"}, headers=headers) as answer:
        assert (await anext(events_of(answer))).name == "queued"
    await until(tmp_path, "left-gone")


async def test_a_caller_of_a_plain_answer_who_leaves_is_noticed_by_the_model(
    count_server: Server, caller: httpx2.AsyncClient, tmp_path: Path
) -> None:
    asking = asyncio.create_task(
        caller.post("/count", json={"text": f"hold {tmp_path}"}, headers={"X-Request-ID": "gone-plain"})
    )
    await until(tmp_path, "began-gone-plain")
    asking.cancel()
    await until(tmp_path, "left-gone-plain")
    count_server.wait_for(r"the client disconnected; its request is cancelled \[gone-plain\]")


async def test_fifty_leavers_leave_nothing_behind(
    caller: httpx2.AsyncClient, triton: HTTPTriton, tmp_path: Path
) -> None:
    leavers = [
        asyncio.create_task(caller.post("/count", json={"text": f"hold {tmp_path}"}, headers=SSE if number % 2 else {}))
        for number in range(NUM_CALLERS)
    ]
    await until(tmp_path, "began-*", NUM_CALLERS)
    assert await num_running(triton) == NUM_CALLERS
    # Every slot is taken: one more waits, or is told at once that waiting is of no use.
    late = await caller.post("/count", json={"text": "echo a"}, headers={"X-Request-Timeout": "0.5"})
    assert late.json()["code"] in ("deadline_exceeded", "deadline_out_of_reach")
    for leaver in leavers:
        leaver.cancel()
    await until(tmp_path, "left-*", NUM_CALLERS)
    # Every slot is free again, and everyone is served.
    told = await asyncio.gather(*(events_for(caller, text=f"echo {number}") for number in range(NUM_CALLERS)))
    assert [each[-1].data["text"] for each in told] == [str(number) for number in range(NUM_CALLERS)]
    while await num_running(triton):
        pass  # each question is a round trip; the model's threads end right after their last response


async def test_a_triton_that_dies_ends_the_stream_with_an_error_and_serves_when_it_is_back(
    echo_servers: Callable[..., Server], tmp_path: Path
) -> None:
    server = echo_servers(folder=COUNT_APP).wait_until_ready()
    async with httpx2.AsyncClient(base_url=server.url, timeout=60) as client:
        async with client.stream("POST", "/count", json={"text": f"hold {tmp_path}"}, headers=SSE) as answer:
            told = events_of(answer)
            await anext(told)
            server.named("tritonserver").kill()
            (last,) = [event async for event in told]
        assert (last.name, last.data["code"]) == ("error", "triton_connection_lost")
        await asyncio.to_thread(server.wait_for, "ready again")
        assert (await client.post("/count", json={"text": "echo a"})).json()["text"] == "a"
        assert (await client.get("/count/describe")).status_code == 200


async def test_describe_and_readiness_ask_the_stream_model(caller: httpx2.AsyncClient) -> None:
    assert (await caller.get("/count/describe")).json()["sizes"] == [[128, 128]]
    (state,) = (await caller.get("/health/ready")).json()["endpoints"]
    assert (state["stream_model"], state["ready"]) == (MODEL, True)
