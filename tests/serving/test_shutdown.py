# SPDX-License-Identifier: Apache-2.0
"""Shutdown of a server: which requests still work, and the errors of the others."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx2
import pytest
from fastapi import FastAPI

import main
from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.core.shutdown import Phase
from fastapi_triton.serving.server import Server
from fastapi_triton.testing import FakeTriton
from fastapi_triton.triton.client import Tensors
from fastapi_triton.triton.model_config import ModelConfig
from fastapi_triton.triton.tensor import Tensor
from support.raw_connection import raw_connection_to
from support.received_events import events_of
from support.scribble_app import MODEL, PATH
from support.scripted_stream_model import SSE, Body, ScriptedStreamModel, app_of, stream_model_config
from support.scripted_triton import REQUEST, Upstream, scripted_triton

NEVER_S, AT_ONCE_S = 60.0, 0.05


@dataclass(slots=True)
class Ending:
    """A server that a test can shut down, and a client of it."""

    server: Server
    client: httpx2.AsyncClient
    serving: asyncio.Task[None]

    async def reach(self, phase: Phase) -> None:
        self.server.should_exit = True
        while self.server.drain.phase < phase:  # noqa: ASYNC110 (there is no event for it)
            await asyncio.sleep(0.001)


@asynccontextmanager
async def ending(app: FastAPI) -> AsyncIterator[Ending]:
    server = Server(app)
    listener = socket.create_server(("127.0.0.1", 0))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        async with httpx2.AsyncClient(base_url=url, timeout=60) as client:
            await client.get("/health/live")  # the response does not matter
            yield Ending(server, client, serving)
    finally:
        server.should_exit = True
        await serving


def settings(*, delay_s: float = 0.0, grace_s: float = NEVER_S) -> Settings:
    return Settings(max_in_flight=4, shutdown_delay_s=delay_s, shutdown_grace_s=grace_s)


@pytest.fixture
async def stream_model() -> ScriptedStreamModel:
    each = ScriptedStreamModel()
    each.go_on.clear()
    return each


@pytest.fixture
def triton(scribble_config: ModelConfig, stream_model: ScriptedStreamModel) -> FakeTriton:
    fake = FakeTriton()
    fake.add(scribble_config)
    fake.add(stream_model_config(scribble_config), respond_stream=stream_model)
    return fake


async def test_an_unready_server_still_accepts_work_on_connections_that_close(
    triton: FakeTriton, stream_model: ScriptedStreamModel, body: Body
) -> None:
    stream_model.go_on.set()
    async with ending(app_of(triton, settings(delay_s=0.5))) as end:
        assert (await end.client.get("/health/ready")).status_code == 200
        await end.reach(Phase.UNREADY)
        unready = await end.client.get("/health/ready")
        assert (unready.status_code, unready.json()["code"]) == (503, "shutting_down")
        assert unready.headers["connection"] == "close"
        done = await end.client.post(PATH, json=body())
        assert (done.status_code, done.headers["connection"]) == (200, "close")
        assert (await end.client.get("/health/live")).status_code == 200
        await end.serving


async def test_running_work_finishes_and_new_work_is_rejected(
    triton: FakeTriton, stream_model: ScriptedStreamModel, body: Body
) -> None:
    app = app_of(triton, settings())
    async with ending(app) as end, raw_connection_to(end.client) as early:
        # A connection whose request has begun, and whose head is complete only after the server has stopped listening.
        content = json.dumps(body()).encode()
        await early.send(b"POST %s HTTP/1.1\r\nHost: " % PATH.encode())
        running = asyncio.create_task(end.client.post(PATH, json=body()))
        await stream_model.has_request.wait()
        await end.reach(Phase.CLOSED)
        with pytest.raises(httpx2.ConnectError):
            await httpx2.AsyncClient(base_url=end.client.base_url).get("/health/live")
        await early.send(b"x\r\nContent-Length: %d\r\n\r\n%s" % (len(content), content))
        response = await early.rest()
        assert response.startswith(b"HTTP/1.1 503 ")
        assert b'"code":"shutting_down"' in response
        assert b"retry-after: 1\r\n" in response
        stream_model.go_on.set()
        done = await running
        assert (done.status_code, done.headers["connection"]) == (200, "close")
        await end.serving
    assert app.services.admission.in_flight == 0


async def test_a_stream_beyond_the_grace_period_is_cancelled_with_an_error(
    triton: FakeTriton, stream_model: ScriptedStreamModel, body: Body
) -> None:
    app = app_of(triton, settings(grace_s=AT_ONCE_S))
    async with ending(app) as end:
        plain = asyncio.create_task(end.client.post(PATH, json=body()))
        await stream_model.has_request.wait()
        async with end.client.stream("POST", PATH, json=body(), headers=SSE) as response:
            events = events_of(response)
            assert (await anext(events)).name == "queued"
            end.server.should_exit = True
            last = [event async for event in events][-1]
        assert (last.name, last.data["code"]) == ("error", "shutting_down")
        stopped = await plain
        assert (stopped.status_code, stopped.json()["code"]) == (503, "shutting_down")
        assert stopped.headers["retry-after"] == "1"
        await end.serving
    assert [stream.is_closed_early for stream in triton.streams] == [True, True]
    assert app.services.admission.in_flight == 0


async def test_plain_inference_beyond_the_grace_period_gets_an_error(scribble_config: ModelConfig, body: Body) -> None:
    is_requested = asyncio.Event()

    async def never(inputs: Tensors) -> dict[str, Tensor]:
        is_requested.set()
        await asyncio.Event().wait()
        raise AssertionError

    fake = FakeTriton()
    fake.add(scribble_config, never)
    app = TritonFrontend(triton=fake, settings=settings(grace_s=AT_ONCE_S))
    app.infer(PATH, model=MODEL, request=main.ScribbleRequest, response=main.ScribbleResponse)
    async with ending(app) as end:
        task = asyncio.create_task(end.client.post(PATH, json=body()))
        await is_requested.wait()
        end.server.should_exit = True
        response = await task
    assert (response.status_code, response.json()["code"]) == (503, "shutting_down")


async def test_v2_gets_the_error_in_tritons_format() -> None:
    is_requested = asyncio.Event()

    async def hold(upstream: Upstream) -> None:
        head, _ = await upstream.request()
        if b"/infer" in head:
            is_requested.set()
        await upstream.closed()

    async with scripted_triton() as scripted:
        scripted.script = hold
        app = TritonFrontend(
            settings=Settings(triton_url=scripted.url, shutdown_grace_s=AT_ONCE_S, watch_interval_s=NEVER_S)
        )
        async with ending(app) as end:
            task = asyncio.create_task(end.client.post("/v2/models/echo/infer", content=REQUEST))
            await is_requested.wait()
            end.server.should_exit = True
            response = await task
            assert (response.status_code, response.json()["code"]) == (503, "shutting_down")
            assert "shutting down" in response.json()["error"]


async def test_a_plain_fastapi_app_finishes_its_requests() -> None:
    app, is_requested, go_on = FastAPI(), asyncio.Event(), asyncio.Event()

    @app.get("/slow")
    async def slow() -> str:
        is_requested.set()
        await go_on.wait()
        return "done"

    async with ending(app) as end:
        task = asyncio.create_task(end.client.get("/slow"))
        await is_requested.wait()
        await end.reach(Phase.CLOSED)
        go_on.set()
        assert (await task).json() == "done"
