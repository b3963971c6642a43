# SPDX-License-Identifier: Apache-2.0
"""Large request bodies share a memory budget: requests beyond it get 503, all others are served."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from starlette.types import Receive, Scope, Send

import main
from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.core.body_buffers import BodyBuffers
from fastapi_triton.core.errors import OverloadedError
from fastapi_triton.serving import connection_watch
from fastapi_triton.testing import FakeTriton
from support.app_on_socket import listening
from support.raw_connection import RawConnection, raw_connection_to
from support.scribble_app import PATH
from support.scripted_app import LIMITS, Running, ScriptedApp, echo, respond, running, whole

BUDGET = 1_000_000
HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n"
MOST = HEAD + b"x" * 600_000
REST = b"x" * 300_000
SMALL = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n" + b"x" * 60_000


async def echo_or_error(scope: Scope, receive: Receive, send: Send) -> None:
    try:
        await echo(scope, receive, send)
    except OverloadedError as error:
        retry_after = (b"retry-after", b"%d" % (error.retry_after_s or 0))
        await respond(send, error.code.encode(), retry_after, status=503)


@pytest.fixture
async def app() -> ScriptedApp:
    return ScriptedApp(LIMITS.model_copy(update={"max_buffered_body_bytes": BUDGET}), echo_or_error)


@pytest.fixture
async def server(app: ScriptedApp) -> AsyncIterator[Running]:
    async with running(app) as each:
        yield each
        assert buffers(each).num_bytes == 0


def buffers(server: Running) -> BodyBuffers:
    return connection_watch.of(server.server.server_state, {}, asyncio.get_running_loop()).body_buffers


async def until_buffered(server: Running, num_bytes: int) -> None:
    while buffers(server).num_bytes != num_bytes:  # noqa: ASYNC110 (there is no event for it)
        await asyncio.sleep(0.001)


async def stalled(server: Running) -> RawConnection:
    wire = await server.wire()
    await wire.send(MOST)
    await until_buffered(server, 600_000)
    return wire


async def test_body_beyond_the_budget_gets_503_and_small_bodies_are_served(server: Running) -> None:
    first = await stalled(server)
    second = await server.wire()
    await second.send(MOST)
    response = await second.rest()
    assert response.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1\r\n" in response
    assert response.endswith(b"\r\n\r\nbody_buffers_full")
    third = await server.wire()
    await third.send(SMALL)
    assert (await third.response())[0] == 200
    await first.send(REST)
    assert (await first.response())[0] == 200
    await until_buffered(server, 0)
    await third.send(MOST + REST)
    assert (await third.response())[0] == 200
    await until_buffered(server, 0)


async def test_disconnect_frees_the_bytes_of_the_body(server: Running) -> None:
    for _ in range(3):
        (await stalled(server)).close()
        await until_buffered(server, 0)


async def test_disconnect_frees_the_bytes_of_a_pipelined_request(app: ScriptedApp, server: Running) -> None:
    async def talk(scope: Scope, receive: Receive, send: Send) -> None:
        await whole(receive)
        await receive()

    app.talk = talk
    wires = [await server.wire() for _ in range(8)]
    for wire in wires:
        await wire.send(SMALL + HEAD + b"x" * 180_000)
    while not buffers(server).num_bytes > 4 * 100_000:  # noqa: ASYNC110 (there is no event for it)
        await asyncio.sleep(0.001)
    assert buffers(server).num_bytes <= BUDGET
    for wire in wires:
        wire.close()
    await until_buffered(server, 0)


async def test_failing_app_frees_the_bytes_of_the_body(app: ScriptedApp, server: Running) -> None:
    async def talk(scope: Scope, receive: Receive, send: Send) -> None:
        await whole(receive)
        raise RuntimeError("a bug")

    app.talk = talk
    wire = await server.wire()
    await wire.send(MOST + REST)
    assert (await wire.rest()).startswith(b"HTTP/1.1 500 ")
    await until_buffered(server, 0)


async def test_frontend_returns_problem_json_and_exports_the_gauge(triton: FakeTriton) -> None:
    frontend = TritonFrontend(triton=triton, settings=Settings(max_buffered_body_bytes=BUDGET))
    frontend.infer(PATH, model=main.model, request=main.ScribbleRequest, response=main.ScribbleResponse)
    async with listening(frontend) as client, raw_connection_to(client) as wire:
        await wire.send(MOST.replace(b"POST /", b"POST " + PATH.encode()))
        while "buffered_body_bytes 600000.0" not in (await client.get("/metrics")).text:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        rejected = await client.post(PATH, content=b"x" * 500_000, headers={"content-type": "application/json"})
        assert (rejected.status_code, rejected.json()["code"]) == (503, "body_buffers_full")
        assert rejected.headers["retry-after"] == "1"
        for path in ("/health/live", "/health/ready", "/metrics"):
            assert (await client.get(path)).status_code == 200
        small = await client.post(PATH, content=b"{}", headers={"content-type": "application/json"})
        assert small.status_code == 422
