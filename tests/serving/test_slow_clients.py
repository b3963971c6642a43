# SPDX-License-Identifier: Apache-2.0
"""Slow clients: each time limit ends only what it is for."""

import asyncio

import pytest
from starlette.types import Receive, Scope, Send

from fastapi_triton.core.errors import RequestTooSlowError
from support.raw_connection import RawConnection
from support.scripted_app import LIMITS, ScriptedApp, echo, respond, running

SOON_S = 0.2


@pytest.fixture
async def app(request: pytest.FixtureRequest) -> ScriptedApp:
    """Set these time limits to a moment, and the others to forever."""
    return ScriptedApp(LIMITS.model_copy(update=request.param), echo)


async def echo_or_error_code(scope: Scope, receive: Receive, send: Send) -> None:
    try:
        await echo(scope, receive, send)
    except RequestTooSlowError as error:
        await respond(send, error.code.encode(), status=408)


def soon(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("app", [dict.fromkeys(names, SOON_S)], indirect=True)


@soon("head_timeout_s")
async def test_a_slow_head_is_408(wire: RawConnection) -> None:
    async def trickle() -> None:
        for byte in b"GET / HTTP/1.1\r\nx: " + b"y" * 1000:
            await wire.send(bytes([byte]))
            await asyncio.sleep(SOON_S / 10)

    trickling = asyncio.create_task(trickle())
    response = await wire.rest()
    trickling.cancel()
    await asyncio.gather(trickling, return_exceptions=True)
    assert response.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"request_too_slow"' in response
    assert b"connection: close" in response


@soon("head_timeout_s")
async def test_a_silent_connection_is_closed_without_a_response(wire: RawConnection) -> None:
    assert await wire.rest() == b""


@soon("head_timeout_s", "body_pause_timeout_s", "body_timeout_s")
async def test_a_connection_between_requests_has_its_own_timeout(wire: RawConnection) -> None:
    for _ in range(2):
        await wire.send(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await wire.response() == (200, b"/a ")
        await asyncio.sleep(3 * SOON_S)  # longer than the other limits


@soon("idle_timeout_s")
async def test_an_idle_connection_is_closed_after_its_timeout(wire: RawConnection) -> None:
    await wire.send(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
    assert await wire.response() == (200, b"/a ")
    assert await wire.rest() == b""


@soon("body_pause_timeout_s")
async def test_a_pause_in_a_body_is_an_error_of_the_app(app: ScriptedApp, wire: RawConnection) -> None:
    app.talk = echo_or_error_code
    await wire.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc")
    response = await wire.rest()
    assert response.endswith(b"\r\n\r\nrequest_too_slow")
    assert b"connection: close" in response


@soon("body_timeout_s")
async def test_a_slow_body_without_pauses_times_out_too(app: ScriptedApp, wire: RawConnection) -> None:
    app.talk = echo_or_error_code
    await wire.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n")

    async def trickle() -> None:
        while True:
            await wire.send(b"x")
            await asyncio.sleep(SOON_S / 10)

    trickling = asyncio.create_task(trickle())
    assert (await wire.rest()).endswith(b"\r\n\r\nrequest_too_slow")
    trickling.cancel()
    await asyncio.gather(trickling, return_exceptions=True)


@soon("head_timeout_s", "body_pause_timeout_s", "body_timeout_s", "idle_timeout_s")
async def test_a_response_may_take_longer_than_all_timeouts(app: ScriptedApp, wire: RawConnection) -> None:
    async def talk(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(4 * SOON_S)
        await echo(scope, receive, send)

    app.talk = talk
    await wire.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
    assert await wire.response() == (200, b"/ abc")


@soon("body_pause_timeout_s", "body_timeout_s")
async def test_a_body_that_waits_for_the_app_does_not_time_out(app: ScriptedApp, wire: RawConnection) -> None:
    async def talk(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(4 * SOON_S)
        await echo(scope, receive, send)

    app.talk = talk
    body = b"x" * 2_000_000
    saying = asyncio.create_task(
        wire.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    )
    assert await wire.response() == (200, b"/ " + body)
    await saying


async def test_connections_over_the_limit_get_503_and_probes_still_work() -> None:
    async with running(ScriptedApp(LIMITS.model_copy(update={"max_connections": 2}), echo)) as server:
        wires = [await server.wire() for _ in range(3)]
        for wire in wires:
            await wire.send(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert await wire.response() == (200, b"/health/live ")
        for wire in wires[:2]:
            await wire.send(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
            assert await wire.response() == (200, b"/a ")
        await wires[2].send(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
        response = await wires[2].rest()
        assert response.startswith(b"HTTP/1.1 503 ")
        assert b'"code":"overloaded"' in response
        assert b"retry-after: 1\r\n" in response
        wires[0].close()
        while server.num_connections > 1:  # noqa: ASYNC110 (there is no event for it)
            await asyncio.sleep(0.001)
        again = await server.wire()
        await again.send(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await again.response() == (200, b"/a ")
