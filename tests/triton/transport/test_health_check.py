# SPDX-License-Identifier: Apache-2.0
"""When a Triton counts as away, and as back: it is asked, and what it does meanwhile is heeded."""

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
    """The models work on, and whoever asks for health gets nothing."""
    while True:
        head, _ = await upstream.request()
        if b"/health/" not in head:
            await upstream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True:
                await upstream.send(b"1\r\na\r\n")
                await asyncio.sleep(0.01)


async def test_one_that_takes_connections_and_never_answers_is_away(
    triton: ScriptedTriton, connections: ConnectionPool, checking: HealthCheck
) -> None:
    triton.script = stay_silent
    await checking.run()
    assert triton.num_connections == 2  # the second question comes over a connection of its own
    with pytest.raises(TritonUnavailableError, match=r"has not responded for 0\.2 s\. Nothing was run") as away:
        await connections.request((INFER,), timeout_s=30)
    assert away.value.retry_after_s == 1
    assert triton.num_connections == 2


async def test_it_is_back_as_soon_as_it_answers(
    triton: ScriptedTriton, connections: ConnectionPool, checking: HealthCheck
) -> None:
    triton.script = stay_silent
    await checking.run()
    await checking.run()
    assert connections.breaker.error is not None
    triton.script = None
    await checking.run()
    assert (await connections.request((INFER,), timeout_s=30))[0].status == 200


async def test_one_whose_answers_still_come_is_not_silent(
    triton: ScriptedTriton, connections: ConnectionPool, checking: HealthCheck
) -> None:
    triton.script = stay_silent_on_health
    async with connections.exchange() as running:
        running.start(INFER)
        running.finish()
        await running.head()
        await checking.run()
    assert connections.breaker.error is None


async def test_a_kept_connection_that_is_dead_says_nothing_about_triton(
    triton: ScriptedTriton, connections: ConnectionPool, checking: HealthCheck
) -> None:
    async def answer_once(upstream: Upstream) -> None:
        await upstream.request()
        await upstream.respond()
        await upstream.closed()  # read on, and say nothing more

    triton.script = answer_once
    await connections.request((INFER,), timeout_s=30)
    await checking.run()
    assert connections.breaker.error is None
    assert triton.num_connections == 2


async def test_any_answer_will_do(triton: ScriptedTriton, connections: ConnectionPool, checking: HealthCheck) -> None:
    async def refuse(upstream: Upstream) -> None:
        await upstream.request()
        await upstream.respond(b"<html>", status=b"502 Bad Gateway")

    triton.script = refuse
    connections.breaker.open(TritonUnavailableError("away"))
    await checking.run()
    assert connections.breaker.error is None


async def test_connections_that_are_closed_at_once_are_as_good_as_none(
    triton: ScriptedTriton, connections: ConnectionPool, checking: HealthCheck
) -> None:
    async def close(upstream: Upstream) -> None:
        upstream.writer.close()

    triton.script = close
    for _ in range(MAX_FAILURES):
        await checking.run()
    with pytest.raises(TritonUnavailableError, match="closed before any response"):
        connections.breaker.require_closed()


async def test_what_was_kept_goes_when_triton_does(
    triton: ScriptedTriton, connections: ConnectionPool, checking: HealthCheck
) -> None:
    await connections.request((INFER,), timeout_s=30)
    connections.breaker.open(TritonUnavailableError("away"))
    await checking.run()
    await connections.request((INFER,), timeout_s=30)
    assert triton.num_connections == 2  # the one that was kept, and that of the question, which is kept now


async def test_nobody_has_to_ask_for_it_to_be_noticed(triton: ScriptedTriton, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Triton that comes and goes: the task by itself opens the breaker, and closes it again."""
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


async def test_it_asks_nothing_while_another_component_asks(
    triton: ScriptedTriton, connections: ConnectionPool
) -> None:
    checking = HealthCheck(connections, interval_s=0.01)
    with checking.status_request():
        await checking._run_when_due()
    assert triton.num_connections == 0


async def test_a_question_of_another_component_that_stays_unanswered_opens_the_breaker(
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
    assert triton.num_connections == 1  # the second question, over a connection of its own
