# SPDX-License-Identifier: Apache-2.0
"""Retries of connections and requests, and the circuit breaker, on real sockets that the test closes."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from fastapi_triton.core.context import current_deadline
from fastapi_triton.core.errors import DeadlineExceededError, InferenceError, TritonUnavailableError
from fastapi_triton.triton.http_client import HTTPTriton
from fastapi_triton.triton.transport.circuit_breaker import MAX_FAILURES
from fastapi_triton.triton.transport.connector import MAX_ATTEMPTS
from fastapi_triton.triton.transport.pool import ConnectionPool
from support.scripted_triton import ScriptedTriton, Upstream, scripted_triton
from support.serving import free_port

GET = (b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",)
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


def connections_to(port: int, *, connect_timeout_s: float = 5) -> ConnectionPool:
    return ConnectionPool(f"http://127.0.0.1:{port}", connect_timeout_s=connect_timeout_s)


@pytest.fixture
def closed_port() -> Iterator[socket.socket]:
    """A bound port that refuses connections until the test calls `listen`."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        bound.setblocking(False)
        yield bound


@pytest.fixture
def unaccepting_port() -> Iterator[int]:
    """A port on which connections never succeed, because its queue of unaccepted connections is full."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for each in (first, second):
            each.setblocking(False)
            each.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


async def failure_of(connections: ConnectionPool) -> TritonUnavailableError:
    with pytest.raises(TritonUnavailableError) as raised:
        await connections.request(GET, timeout_s=30)
    return raised.value


@asynccontextmanager
async def responding_once(listener: socket.socket) -> AsyncIterator[list[socket.socket]]:
    """Responds to the first request of each connection. Yields the connections."""
    loop = asyncio.get_running_loop()
    accepted: list[socket.socket] = []

    async def accept() -> None:
        while True:
            connection, _ = await loop.sock_accept(listener)
            accepted.append(connection)
            await loop.sock_recv(connection, 1000)
            await loop.sock_sendall(connection, RESPONSE)

    task = asyncio.create_task(accept())
    yield accepted
    task.cancel()
    await asyncio.wait([task])
    for each in accepted:
        each.close()


async def test_a_refused_connection_is_retried(closed_port: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    connections = connections_to(closed_port.getsockname()[1])
    failed = connections.breaker.failed

    has_failed = asyncio.Event()

    def listen_from_now_on(error: TritonUnavailableError) -> None:
        failed(error)
        closed_port.listen()
        has_failed.set()

    monkeypatch.setattr(connections.breaker, "failed", listen_from_now_on)
    task = asyncio.create_task(connections.request(GET, timeout_s=30))
    await has_failed.wait()
    async with responding_once(closed_port):
        head, _ = await task
    assert head.status == 200
    assert connections.breaker.num_failures == 0  # the response resets it
    connections.close()


async def test_after_repeated_refusals_no_connection_is_tried(closed_port: socket.socket) -> None:
    assert MAX_ATTEMPTS == MAX_FAILURES
    connections = connections_to(closed_port.getsockname()[1])
    first = await failure_of(connections)
    assert "nothing listens there. Nothing was run" in first.detail
    closed_port.listen()  # a connection would succeed now
    second = await failure_of(connections)
    assert (second.detail, second.code) == (first.detail, "triton_unavailable")
    assert connections.breaker.num_failures == MAX_FAILURES
    assert second.retry_after_s == 1


async def test_retry_after_grows_with_the_outage(closed_port: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    connections = connections_to(closed_port.getsockname()[1])
    await failure_of(connections)
    now = time.monotonic()
    for away_s, retry_after_s in ((7.0, 7), (300, 30)):
        monkeypatch.setattr(
            "fastapi_triton.triton.transport.circuit_breaker.time.monotonic", lambda away_s=away_s: now + away_s
        )
        assert (await failure_of(connections)).retry_after_s == pytest.approx(retry_after_s, abs=1)


async def test_a_request_without_time_for_another_attempt_fails_at_once(
    closed_port: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastapi_triton.triton.transport.connector.FIRST_BACKOFF_S", 3600)
    connections = connections_to(closed_port.getsockname()[1])
    token = current_deadline.set(time.monotonic() + 600)
    try:
        await failure_of(connections)
    finally:
        current_deadline.reset(token)
    assert connections.breaker.num_failures == 1


async def test_a_deadline_before_the_connection_does_not_open_the_breaker(unaccepting_port: int) -> None:
    connections = connections_to(unaccepting_port)
    token = current_deadline.set(time.monotonic() + 0.01)
    try:
        for _ in range(2 * MAX_FAILURES):
            with pytest.raises(DeadlineExceededError, match=r"connected to Triton\. Nothing was run"):
                await connections.request(GET, timeout_s=30)
    finally:
        current_deadline.reset(token)
    assert connections.breaker.num_failures == 0


async def test_after_some_connection_timeouts_requests_fail_at_once(unaccepting_port: int) -> None:
    connections = connections_to(unaccepting_port, connect_timeout_s=0.05)
    for number in range(1, MAX_FAILURES + 1):
        assert "no connection in time" in (await failure_of(connections)).detail
        assert connections.breaker.num_failures == number  # one attempt each
    errors = [await failure_of(connections) for _ in range(100)]
    assert connections.breaker.num_failures == MAX_FAILURES
    assert all("no connection in time" in each.detail for each in errors)


async def test_an_unknown_host_name_is_reported() -> None:
    connections = ConnectionPool("http://no-such-host.invalid:8000", connect_timeout_s=5)
    error = await failure_of(connections)
    assert "host name in its URL cannot be resolved" in error.detail
    assert "no-such-host" not in error.detail


async def test_failures_of_models_do_not_open_the_breaker() -> None:
    async def fail(upstream: Upstream) -> None:
        while True:
            await upstream.request()
            await upstream.respond(b'{"error": "secret"}', status=b"500 Internal Server Error")

    async with scripted_triton() as triton, HTTPTriton(triton.url, heartbeat_s=3600) as client:
        triton.script = fail
        for _ in range(3 * MAX_FAILURES):
            with pytest.raises(InferenceError):
                await client.infer("m", {})
        assert client.pool.breaker.error is None
        assert triton.num_connections == 1


@pytest.mark.parametrize("how", ["closed", "half closed", "reset", "unexpected data"])
async def test_an_unusable_idle_connection_is_replaced_before_the_request(closed_port: socket.socket, how: str) -> None:
    closed_port.listen()
    connections = connections_to(closed_port.getsockname()[1])
    async with responding_once(closed_port) as accepted:
        await connections.request(GET, timeout_s=30)
        if how == "closed":
            accepted[0].close()
        elif how == "half closed":
            accepted[0].shutdown(socket.SHUT_WR)
        elif how == "reset":
            accepted[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            accepted[0].close()
        else:
            accepted[0].send(RESPONSE)
        # The event loop has not run since, so only the request itself can detect it.
        assert (await connections.request(GET, timeout_s=30))[0].status == 200
        assert len(accepted) == 2
        connections.close()


async def lose_first(triton: ScriptedTriton, upstream: Upstream) -> None:
    head, body = await upstream.request()
    if b"/health/" not in head:
        triton.requests.append((head, body))
        if len(triton.requests) > 1:
            await upstream.respond()


async def test_a_status_request_is_sent_again_if_its_connection_breaks() -> None:
    async with scripted_triton() as triton, HTTPTriton(triton.url, heartbeat_s=3600) as client:
        triton.script = lambda upstream: lose_first(triton, upstream)
        assert await client.ready("m")
        assert sum(b"/ready" in head for head, _ in triton.requests) == 2


async def test_a_status_request_is_sent_at_most_twice() -> None:
    async def lose(upstream: Upstream) -> None:
        triton.requests.append(await upstream.request())

    async with scripted_triton() as triton, HTTPTriton(triton.url, heartbeat_s=3600) as client:
        triton.script = lose
        with pytest.raises(TritonUnavailableError):
            await client.ready("m")
        assert sum(b"/ready" in head for head, _ in triton.requests) == 2


async def test_inference_is_not_sent_again_if_its_connection_breaks() -> None:
    async with scripted_triton() as triton, HTTPTriton(triton.url, heartbeat_s=3600) as client:
        triton.script = lambda upstream: lose_first(triton, upstream)
        with pytest.raises(TritonUnavailableError) as lost:
            await client.infer("m", {})
        assert lost.value.code == "triton_connection_lost"
        assert sum(head.startswith(b"POST") for head, _ in triton.requests) == 1


async def test_the_error_for_a_free_port_says_that_nothing_listens() -> None:
    async with HTTPTriton(f"http://localhost:{free_port()}") as client:  # tries each address of that name
        with pytest.raises(TritonUnavailableError, match="nothing listens there"):
            await client.ready("m")


async def test_an_outage_is_logged_once_and_not_for_each_request(
    closed_port: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with HTTPTriton(f"http://127.0.0.1:{closed_port.getsockname()[1]}", heartbeat_s=3600) as client:
        for _ in range(50):
            with pytest.raises(TritonUnavailableError):
                await client.infer("m", {})
    address = f"http://127.0.0.1:{closed_port.getsockname()[1]}"
    outages = [each.message for each in caplog.records if "is not running yet" in each.message]
    assert outages == [f"Triton at {address} is not running yet: nothing listens there"]  # no advice for clients
    assert len(caplog.records) < 5
