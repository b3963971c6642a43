# SPDX-License-Identifier: Apache-2.0
"""Every request of a client that disconnects gets `http.disconnect`, however much of the connection has been read."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable

import pytest
from starlette.types import Receive, Scope, Send

from support.raw_connection import RawConnection
from support.scripted_app import LIMITS, Running, ScriptedApp, echo, running, whole

POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
NEXT = b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n"
BROKEN = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: none\r\n\r\n"
HALF = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\nabc"


@pytest.fixture
async def app() -> ScriptedApp:
    return ScriptedApp(LIMITS.model_copy(update={"idle_timeout_s": 0.2}), echo)  # the watch checks every 50 ms


@pytest.fixture
async def server(app: ScriptedApp) -> AsyncIterator[Running]:
    async with running(app) as each:
        yield each


def close(wire: RawConnection) -> None:
    wire.close()


def reset(wire: RawConnection) -> None:
    wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wire.close()


def half_close(wire: RawConnection) -> None:
    wire.socket.shutdown(socket.SHUT_WR)


LEAVING = pytest.mark.parametrize("leave", [close, reset, half_close])


@LEAVING
@pytest.mark.parametrize(
    "data",
    [POST, POST + NEXT, POST + NEXT * 100, POST + NEXT * 30_000, POST + NEXT[:9], POST + BROKEN, POST + HALF],
    ids=["alone", "one behind", "many behind", "more than is read", "half a head", "not HTTP", "half a body"],
)
async def test_running_request_receives_the_disconnect(
    app: ScriptedApp, server: Running, leave: Callable[[RawConnection], None], data: bytes
) -> None:
    has_begun = asyncio.Event()
    received = asyncio.get_running_loop().create_future()

    async def talk(scope: Scope, receive: Receive, send: Send) -> None:
        assert await whole(receive) == b"abc"
        has_begun.set()
        received.set_result((await receive())["type"])

    app.talk = talk
    wire = await server.wire()
    sending = asyncio.create_task(wire.send(data))
    await has_begun.wait()
    leave(wire)
    assert await received == "http.disconnect"
    while server.num_connections:  # noqa: ASYNC110 (there is no event for it)
        await asyncio.sleep(0.001)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)


@LEAVING
async def test_request_with_unread_body_receives_the_disconnect(
    app: ScriptedApp, server: Running, leave: Callable[[RawConnection], None]
) -> None:
    go_on = asyncio.Event()
    received = asyncio.get_running_loop().create_future()

    async def talk(scope: Scope, receive: Receive, send: Send) -> None:
        await go_on.wait()
        received.set_result((await receive())["type"])

    app.talk = talk
    wire = await server.wire()
    sending = asyncio.create_task(wire.send(HALF + b"x" * 500_000))
    while not any(each.flow.read_paused for each in server.server.server_state.connections):  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    await sending
    leave(wire)
    while server.num_connections:  # noqa: ASYNC110 (there is no event for it)
        await asyncio.sleep(0.001)
    go_on.set()
    assert await received == "http.disconnect"


async def test_pipelined_requests_are_dropped(app: ScriptedApp, server: Running) -> None:
    paths: list[str] = []
    has_begun = asyncio.Event()

    async def talk(scope: Scope, receive: Receive, send: Send) -> None:
        paths.append(scope["path"])
        await whole(receive)
        has_begun.set()
        while (await receive())["type"] != "http.disconnect":
            pass

    app.talk = talk
    wire = await server.wire()
    await wire.send(POST + NEXT * 10)
    await has_begun.wait()
    wire.close()
    while server.num_connections or server.server.server_state.tasks:  # noqa: ASYNC110 (there is no event for it)
        await asyncio.sleep(0.001)
    assert paths == ["/"]
