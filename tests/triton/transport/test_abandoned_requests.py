# SPDX-License-Identifier: Apache-2.0
"""Requests that end before Triton responds: the connection is read to the end, and the slot stays taken until then."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from fastapi_triton.admission.limiter import Admission
from fastapi_triton.core.errors import TritonUnavailableError
from fastapi_triton.triton.transport.pool import ConnectionPool
from support.scripted_triton import ScriptedTriton, Upstream, scripted_triton

REQUEST = b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"


class HeldTriton:
    """Sets an event for each request, and responds after `go_on`."""

    def __init__(self) -> None:
        self.has_request, self.go_on = asyncio.Event(), asyncio.Event()
        self.body = b"{}"
        self.breaks = False

    async def __call__(self, upstream: Upstream) -> None:
        while True:
            await upstream.request()
            self.has_request.set()
            await self.go_on.wait()
            if self.breaks:
                return
            await upstream.respond(self.body)


@pytest.fixture
async def held() -> HeldTriton:
    return HeldTriton()


@pytest.fixture
async def triton(held: HeldTriton) -> AsyncIterator[ScriptedTriton]:
    async with scripted_triton() as triton:
        triton.script = held
        yield triton


@pytest.fixture
async def connections(triton: ScriptedTriton) -> AsyncIterator[ConnectionPool]:
    connections = ConnectionPool(triton.url, connect_timeout_s=5)
    yield connections
    connections.close()
    await asyncio.sleep(0)


async def until(is_true: Callable[[], bool]) -> None:
    while not is_true():  # noqa: ASYNC110 (no event for a change of the counts)
        await asyncio.sleep(0.001)


async def request(connections: ConnectionPool, admission: Admission, *, timeout_s: float = 60) -> bytes:
    with await admission.slot():
        _, body = await connections.request([REQUEST], timeout_s=timeout_s)
        return bytes(body)


@pytest.mark.parametrize("body", [b"{}", b"x" * 1_000_000], ids=["small", "large"])
@pytest.mark.parametrize("cause", ["cancelled", "late"])
async def test_after_the_response_the_slot_is_free_and_the_connection_is_reused(
    connections: ConnectionPool, triton: ScriptedTriton, held: HeldTriton, cause: str, body: bytes
) -> None:
    admission = Admission("m", 1)
    held.body = body
    task = asyncio.create_task(request(connections, admission, timeout_s=0.01 if cause == "late" else 60))
    await held.has_request.wait()
    if cause == "cancelled":
        task.cancel()
    with pytest.raises((asyncio.CancelledError, TimeoutError)):
        await task
    assert admission.in_flight == 1
    held.go_on.set()
    await until(lambda: admission.in_flight == 0)
    assert admission.times.service_s is not None  # the late response counts for the service time
    assert await request(connections, admission) == body
    assert triton.num_connections == 1


async def test_the_slot_is_free_when_the_connection_breaks(
    connections: ConnectionPool, triton: ScriptedTriton, held: HeldTriton
) -> None:
    admission = Admission("m", 1)
    task = asyncio.create_task(request(connections, admission))
    await held.has_request.wait()
    task.cancel()
    await asyncio.wait([task])
    held.breaks = True
    held.go_on.set()
    await until(lambda: admission.in_flight == 0)
    assert admission.times.service_s is None
    held.breaks = False
    assert await request(connections, admission) == b"{}"
    assert triton.num_connections == 2


async def test_an_incomplete_request_is_closed_and_frees_its_slot_at_once(
    connections: ConnectionPool, triton: ScriptedTriton
) -> None:
    is_closed = asyncio.Event()

    async def script(upstream: Upstream) -> None:
        await upstream.head()
        await asyncio.sleep(0.05)  # by then the frontend's send buffer is full
        await upstream.closed()
        is_closed.set()

    triton.script = script
    admission = Admission("m", 1)
    size = 64 * 1024 * 1024
    head = b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size
    with pytest.raises(TimeoutError), await admission.slot():
        await connections.request([head, b"x" * size], timeout_s=0.02)
    assert admission.in_flight == 0
    await is_closed.wait()


async def test_a_request_without_a_slot_is_closed(connections: ConnectionPool, held: HeldTriton) -> None:
    with pytest.raises(TimeoutError):
        await connections.request([REQUEST], timeout_s=0.01)
    held.go_on.set()
    held.breaks = True
    with pytest.raises(TritonUnavailableError):
        await connections.request([REQUEST], timeout_s=5)


async def test_closing_the_pool_closes_abandoned_requests(connections: ConnectionPool, held: HeldTriton) -> None:
    admission = Admission("m", 1)
    task = asyncio.create_task(request(connections, admission))
    await held.has_request.wait()
    task.cancel()
    await asyncio.wait([task])
    connections.close()
    await until(lambda: admission.in_flight == 0)


async def test_a_request_after_its_slot_was_released_does_not_release_it_again(
    connections: ConnectionPool, held: HeldTriton
) -> None:
    admission = Admission("m", 1)
    with await admission.slot():
        pass
    with pytest.raises(TimeoutError):
        await connections.request([REQUEST], timeout_s=0.01)
    held.breaks = True
    held.go_on.set()
    await asyncio.sleep(0)
    connections.close()
    assert admission.in_flight == 0
