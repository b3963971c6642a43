# SPDX-License-Identifier: Apache-2.0
"""The process of a Python model dies: Triton 2.51 goes on calling the model ready; the frontend does not."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from pydantic import BaseModel, Json

from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.embedded import triton_process
from fastapi_triton.embedded.triton_process import EmbeddedTriton
from support.app_on_socket import listening
from support.prometheus_scrape import scrape
from support.received_events import ReceivedEvent, events_of
from support.serving import COUNT_APP, Server

pytestmark = pytest.mark.integration

DIED = "model_process_died"


@pytest.mark.slow
def test_the_embedded_triton_is_restarted(echo_servers: Callable[..., Server]) -> None:
    server = echo_servers().wait_until_ready()
    (stub,) = (each for each in server.below() if "echo_0" in each.cmdline())
    stub.kill()
    server.wait_for("the process of model echo has died")
    server.wait_for("ready again")
    assert server.post("/echo", json={"text": "hi"}).json() == {"text": "hi"}


@pytest.mark.slow
def test_streams_of_the_embedded_triton_end_before_it_is_restarted(
    echo_servers: Callable[..., Server], tmp_path: Path
) -> None:
    server = echo_servers(folder=COUNT_APP).wait_until_ready()
    body, headers = {"text": f"hold {tmp_path}"}, {"Accept": "text/event-stream"}
    with httpx2.stream("POST", f"{server.url}/count", json=body, headers=headers, timeout=60) as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith("event: ")
        (stub,) = (each for each in server.below() if "count_stream_0" in each.cmdline())
        stub.kill()
        rest = "".join(lines)
    assert "event: error" in rest
    assert DIED in rest
    server.wait_for("ready again")
    assert server.post("/count", json={"text": "echo hi"}).json()["text"] == "hi"


class CountRequest(BaseModel):
    text: str


class CountResponse(BaseModel):
    text: str
    info: Json[dict[str, Any]]


class NoWatch:
    """Somebody else's Triton: nobody sees its processes."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def loaded(self, model: str) -> None: ...

    def close(self) -> None: ...


@pytest.fixture
async def triton(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[EmbeddedTriton]:
    monkeypatch.setattr(triton_process, "StubMonitor", NoWatch)
    async with EmbeddedTriton.prepare(COUNT_APP / "models") as triton:
        yield triton


@pytest.fixture
async def caller(triton: EmbeddedTriton) -> AsyncIterator[httpx2.AsyncClient]:
    app = TritonFrontend(settings=Settings(triton_url=triton.url, watch_interval_s=0.2))
    app.infer("/count", model="count", stream_model="count_stream", request=CountRequest, response=CountResponse)
    async with listening(app) as caller:
        yield caller


async def readiness(caller: httpx2.AsyncClient) -> tuple[int, str]:
    answer = await caller.get("/health/ready")
    return answer.status_code, answer.json()["endpoints"][0].get("code", "")


async def until_ready(caller: httpx2.AsyncClient) -> None:
    while (await readiness(caller))[0] != 200:  # noqa: ASYNC110  # it is in another process
        await asyncio.sleep(0.1)


async def last_event(caller: httpx2.AsyncClient, text: str, begun: asyncio.Event) -> ReceivedEvent:
    headers = {"Accept": "text/event-stream"}
    async with caller.stream("POST", "/count", json={"text": text}, headers=headers) as answer:
        events = []
        async for told in events_of(answer):
            events.append(told)
            begun.set()
    return events[-1]


@pytest.mark.slow
async def test_a_triton_elsewhere_is_unready_until_it_is_restarted(
    caller: httpx2.AsyncClient, triton: EmbeddedTriton, tmp_path: Path
) -> None:
    assert (await caller.get("/health/startup")).status_code == 503
    await until_ready(caller)
    begun = asyncio.Event()
    running = asyncio.create_task(last_event(caller, f"hold {tmp_path}", begun))
    await begun.wait()
    below = psutil.Process().children(recursive=True)
    (stub,) = (each for each in below if "count_stream_0" in each.cmdline())
    server = stub.parent()
    assert server is not None
    assert server.name() == "tritonserver"
    stub.kill()
    refused = await caller.post("/count", json={"text": "echo hi"})
    assert (refused.status_code, refused.json()["code"]) == (503, DIED)
    assert "has died" in refused.json()["detail"]
    assert "retry-after" in refused.headers
    assert (await running).data["code"] == DIED
    assert await readiness(caller) == (503, DIED)
    numbers = await scrape(caller)
    assert numbers.of("fastapi_triton_model_ready", model="count_stream") == 0
    assert numbers["fastapi_triton_triton_up"] == 1
    assert (await caller.get("/health/startup")).status_code == 200
    assert await readiness(caller) == (503, DIED)  # it stays so

    server.kill()
    await until_ready(caller)
    assert (await caller.post("/count", json={"text": "echo hi"})).json()["text"] == "hi"
