# SPDX-License-Identifier: Apache-2.0
"""The process of a Python model dies: Triton 2.51 still reports the model as ready, the frontend does not."""

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
def test_embedded_triton_is_restarted(echo_servers: Callable[..., Server]) -> None:
    server = echo_servers().wait_until_ready()
    (stub,) = (each for each in server.below() if "echo_0" in each.cmdline())
    stub.kill()
    server.wait_for("the process of model echo has died")
    server.wait_for("ready again")
    assert server.post("/echo", json={"text": "hi"}).json() == {"text": "hi"}


@pytest.mark.slow
def test_streams_end_before_the_embedded_triton_is_restarted(
    echo_servers: Callable[..., Server], tmp_path: Path
) -> None:
    server = echo_servers(folder=COUNT_APP).wait_until_ready()
    body, headers = {"text": f"hold {tmp_path}"}, {"Accept": "text/event-stream"}
    with httpx2.stream("POST", f"{server.url}/count", json=body, headers=headers, timeout=60) as response:
        lines = response.iter_lines()
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
    """An external Triton, whose processes the frontend cannot see."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def loaded(self, model: str) -> None: ...

    def close(self) -> None: ...


@pytest.fixture
async def triton(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[EmbeddedTriton]:
    monkeypatch.setattr(triton_process, "StubMonitor", NoWatch)
    async with EmbeddedTriton.prepare(COUNT_APP / "models") as triton:
        yield triton


@pytest.fixture
async def client(triton: EmbeddedTriton) -> AsyncIterator[httpx2.AsyncClient]:
    app = TritonFrontend(settings=Settings(triton_url=triton.url, watch_interval_s=0.2))
    app.infer("/count", model="count", stream_model="count_stream", request=CountRequest, response=CountResponse)
    async with listening(app) as client:
        yield client


async def readiness(client: httpx2.AsyncClient) -> tuple[int, str]:
    response = await client.get("/health/ready")
    return response.status_code, response.json()["endpoints"][0].get("code", "")


async def until_ready(client: httpx2.AsyncClient) -> None:
    while (await readiness(client))[0] != 200:  # noqa: ASYNC110  # there is no event for it
        await asyncio.sleep(0.1)


async def last_event(client: httpx2.AsyncClient, text: str, has_begun: asyncio.Event) -> ReceivedEvent:
    headers = {"Accept": "text/event-stream"}
    async with client.stream("POST", "/count", json={"text": text}, headers=headers) as response:
        events = []
        async for event in events_of(response):
            events.append(event)
            has_begun.set()
    return events[-1]


@pytest.mark.slow
async def test_external_triton_is_unready_until_it_is_restarted(
    client: httpx2.AsyncClient, triton: EmbeddedTriton, tmp_path: Path
) -> None:
    assert (await client.get("/health/startup")).status_code == 503
    await until_ready(client)
    has_begun = asyncio.Event()
    running = asyncio.create_task(last_event(client, f"hold {tmp_path}", has_begun))
    await has_begun.wait()
    port = f"--http-port={triton.ports.http}"  # other tests may have a Triton too
    (server,) = (
        each
        for each in psutil.Process().children(recursive=True)
        if each.name() == "tritonserver" and port in each.cmdline()
    )
    (stub,) = (each for each in server.children() if "count_stream_0" in each.cmdline())
    stub.kill()
    failed = await client.post("/count", json={"text": "echo hi"})
    assert (failed.status_code, failed.json()["code"]) == (503, DIED)
    assert "has died" in failed.json()["detail"]
    assert "retry-after" in failed.headers
    assert (await running).data["code"] == DIED
    assert await readiness(client) == (503, DIED)
    numbers = await scrape(client)
    assert numbers.of("fastapi_triton_model_ready", model="count_stream") == 0
    assert numbers["fastapi_triton_triton_up"] == 1
    assert (await client.get("/health/startup")).status_code == 200
    assert await readiness(client) == (503, DIED)  # it stays unready

    server.kill()
    await until_ready(client)
    assert (await client.post("/count", json={"text": "echo hi"})).json()["text"] == "hi"
