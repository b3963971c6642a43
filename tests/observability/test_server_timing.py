# SPDX-License-Identifier: Apache-2.0
"""Every response has `Server-Timing` with the time of its stages."""

import re
import time
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from starlette.types import Message, Receive, Scope, Send

from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.core.request_record import TRITON, WRITE, RequestRecord, Stage, current_record
from fastapi_triton.middleware.request_recording import RequestRecordingMiddleware
from support.app_on_socket import listening
from support.scribble_app import PATH
from support.scripted_triton import INFER, REQUEST, scripted_triton


def timing(response: httpx2.Response) -> dict[str, float]:
    """Milliseconds by stage."""
    (header,) = response.headers.get_list("server-timing")
    return stages(header)


def stages(header: str) -> dict[str, float]:
    return {name: float(value) for name, value in re.findall(r"(\w+);dur=([\d.]+)", header)}


async def test_a_response_has_its_stages(client: httpx2.AsyncClient, body: Callable[..., dict[str, Any]]) -> None:
    times = timing(await client.post(PATH, json=body()))
    assert set(times) == {"read", "wait", "triton", "total"}
    assert times["total"] >= times["triton"] + times["read"]


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", PATH), ("GET", PATH), ("GET", "/nothing"), ("GET", "/health/live"), ("GET", "/docs"), ("POST", "/v1/x")],
)
async def test_every_response_has_the_header_errors_too(client: httpx2.AsyncClient, method: str, path: str) -> None:
    assert "total" in timing(await client.request(method, path))


async def test_v2_responses_have_the_header_errors_too() -> None:
    async with (
        scripted_triton() as triton,
        listening(TritonFrontend(settings=Settings(triton_url=triton.url))) as caller,
    ):
        assert timing(await caller.post(INFER, content=REQUEST))["triton"] > 0
        assert timing(await caller.get("/v2/nothing"))["triton"] == 0


async def test_the_time_to_send_the_body_is_recorded() -> None:
    record: list[RequestRecord] = []

    async def app(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        assert current_record.get().seconds[WRITE] == 0
        await send({"type": "http.response.body", "body": b"abc"})

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(_: Message) -> None:
        """Accept the message at once."""

    scope = {"type": "http", "method": "GET", "raw_path": b"/", "headers": []}
    await RequestRecordingMiddleware(app, [record.append])(scope, receive, send)
    assert (record[0].status, record[0].sent_bytes) == (200, 3)
    assert record[0].seconds[WRITE] > 0


async def test_parallel_work_counts_once() -> None:
    record = RequestRecord("GET")
    current_record.set(record)
    started = time.perf_counter()
    with Stage(TRITON), Stage(TRITON):
        now = time.perf_counter()
        assert 2000 <= stages(record.server_timing(now + 2).decode())["triton"] < 4000  # not doubled
    assert 0 < record.seconds[TRITON] <= time.perf_counter() - started
    before = record.seconds[TRITON]
    with Stage(TRITON):
        pass
    assert before <= record.seconds[TRITON] < 1
