# SPDX-License-Identifier: Apache-2.0
"""The health check: when Triton counts as unreachable, and when as reachable again."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from fastapi_triton.core.errors import TritonUnavailableError
from fastapi_triton.triton.http_client import HTTPTriton
from fastapi_triton.triton.transport import health_check
from fastapi_triton.triton.transport.circuit_breaker import MAX_FAILURES
from fastapi_triton.triton.transport.health_check import HealthCheck
from fastapi_triton.triton.transport.pool import ConnectionPool
from support.scripted_triton import ScriptedTriton, Upstream, scripted_triton
from support.serving import free_port

INFER = b"POST /v2/models/m/infer HTTP/1.1\r\ncontent-length: 0\r\nhost: x\r\n\r\n"


@pytest.fixture
async def triton() -> AsyncIterator[ScriptedTriton]:
    async with scripted_triton() as made:
        yield made


@pytest.fixture
async def connections(triton: ScriptedTriton) -> AsyncIterator[ConnectionPool]:
    made = ConnectionPool(triton.url, connect_timeout_s=5)
    yield made
    made.close()


@pytest.fixture
def checking(connections: ConnectionPool, monkeypatch: pytest.MonkeyPatch) -> HealthCheck:
    monkeypatch.setattr(health_check, "CHECK_TIMEOUT_S", 0.1)
    return HealthCheck(connections, interval_s=3600)


async def stay_silent(upstream: Upstream) -> None:
    await upstream.closed()


async def stay_silent_on_health(upstream: Upstream) -> None:
    """The models keep responding, but health requests get no response."""
    while True:
        head, _ = await upstream.request()
        if b"/health/" not in head:
            await upstream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True:
                await upstream.send(b"1\r\na\r\n")
                await asyncio.sleep(0.01)


async def test_a_triton_that_accepts_connections_and_never_responds_is_unreachable(
    triton: ScriptedTriton, connections: ConnectionPool, checking: HealthCheck
) -> None:
    triton.script = stay_silent
    await checking.run()
    assert triton.num_connections == 2  # the second check uses a new connection
    with pytest.raises(TritonUnavailableError, match=r"has not responded for 0\.2 s\. Nothing was run") as away:
        await connections.request((INFER,), timeout_s=30)
    assert away.value.retry_after_s == 1
    assert triton.num_connections == 2


async def test_triton_is_reachable_after_its_next_response(
    triton: ScriptedTriton, connections: ConnectionPool, checking: HealthCheck
) -> None:
    triton.script = stay_silent
    await checking.run()
    await checking.run()
    assert connections.breaker.error is not None
    triton.script = None
    await checking.run()
    assert (await connections.request((INFER,), timeout_s=30))[0].status == 200


async def test_a_triton_that_still_sends_other_responses_is_reachable(
    triton: ScriptedTriton, connections: ConnectionPool, checking: HealthCheck
) -> None:
    triton.script = stay_silent_on_health
    async with connections.exchange() as running:
        running.start(INFER)
        running.finish()
        await running.head()
        await checking.run()
    assert connections.breaker.error is None


async def test_a_dead_idle_connection_does_not_open_the_breaker(
    triton: ScriptedTriton, connections: ConnectionPool, checking: HealthCheck
) -> None:
    async def respond_once(upstream: Upstream) -> None:
        await upstream.request()
        await upstream.respond()
        await upstream.closed()  # no further response

    triton.script = respond_once
    await connections.request((INFER,), timeout_s=30)
    await checking.run()
    assert connections.breaker.error is None
    assert triton.num_connections == 2


async def test_any_response_closes_the_breaker(
    triton: ScriptedTriton, connections: ConnectionPool, checking: HealthCheck
) -> None:
    async def refuse(upstream: Upstream) -> None:
        await upstream.request()
        await upstream.respond(b"<html>", status=b"502 Bad Gateway")

    triton.script = refuse
    connections.breaker.open(TritonUnavailableError("away"))
    await checking.run()
    assert connections.breaker.error is None


async def test_connections_that_are_closed_at_once_open_the_breaker(
    triton: ScriptedTriton, connections: ConnectionPool, checking: HealthCheck
) -> None:
    async def close(upstream: Upstream) -> None:
        upstream.writer.close()

    triton.script = close
    for _ in range(MAX_FAILURES):
        await checking.run()
    with pytest.raises(TritonUnavailableError, match="closed before any response"):
        connections.breaker.require_closed()


async def test_opening_the_breaker_closes_idle_connections(
    triton: ScriptedTriton, connections: ConnectionPool, checking: HealthCheck
) -> None:
    await connections.request((INFER,), timeout_s=30)
    connections.breaker.open(TritonUnavailableError("away"))
    await checking.run()
    await connections.request((INFER,), timeout_s=30)
    assert triton.num_connections == 2  # the closed idle one, and that of the check, which is idle now


async def test_outages_are_detected_without_requests(triton: ScriptedTriton, monkeypatch: pytest.MonkeyPatch) -> None:
    """The task of the health check opens the breaker, and closes it again."""
    port = free_port()
    states: asyncio.Queue[str] = asyncio.Queue()
    client = HTTPTriton(f"http://127.0.0.1:{port}", heartbeat_s=0.01)
    for state in ("open", "close"):
        change = getattr(client.pool.breaker, state)

        def changed(*arguments: object, state: str = state, change: Callable[..., None] = change) -> None:
            change(*arguments)
            states.put_nowait(state)

        monkeypatch.setattr(client.pool.breaker, state, changed)

    async def until(state: str) -> None:
        while await states.get() != state:
            pass

    async with client:
        await until("open")
        server = await asyncio.start_server(triton.serve, "127.0.0.1", port)
        await until("close")
        assert await client.ready("m")
        server.close()
        for writer in triton.writers:
            writer.close()
        await until("open")


async def test_no_check_is_sent_while_another_component_sends_a_status_request(
    triton: ScriptedTriton, connections: ConnectionPool
) -> None:
    checking = HealthCheck(connections, interval_s=0.01)
    with checking.status_request():
        await checking._run_when_due()
    assert triton.num_connections == 0


async def test_a_status_request_of_another_component_without_response_opens_the_breaker(
    triton: ScriptedTriton, connections: ConnectionPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health_check, "CHECK_TIMEOUT_S", 0.1)
    triton.script = stay_silent
    is_open = asyncio.Event()
    connections.breaker.on_change = is_open.set
    checking = HealthCheck(connections, interval_s=3600)
    async with checking.running():
        with checking.status_request():
            await is_open.wait()
    assert triton.num_connections == 1  # of the check, which uses a new connection
