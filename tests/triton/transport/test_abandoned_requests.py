# SPDX-License-Identifier: Apache-2.0
"""A request that is over before Triton is done with it: its connection is read to its end, its slot taken."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from fastapi_triton.admission.limiter import Admission
from fastapi_triton.core.errors import TritonUnavailableError
from fastapi_triton.triton.transport.pool import ConnectionPool
from support.scripted_triton import ScriptedTriton, Upstream, scripted_triton

REQUEST = b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"


class Held:
    """Triton, which says when it has a request, and answers when it may."""

    def __init__(self) -> None:
        self.has_request, self.go_on = asyncio.Event(), asyncio.Event()
        self.answer = b"{}"
        self.breaks = False

    async def __call__(self, upstream: Upstream) -> None:
        while True:
            await upstream.request()
            self.has_request.set()
            await self.go_on.wait()
            if self.breaks:
                return
            await upstream.respond(self.answer)


@pytest.fixture
async def held() -> Held:
    return Held()


@pytest.fixture
async def triton(held: Held) -> AsyncIterator[ScriptedTriton]:
    async with scripted_triton() as triton:
        triton.script = held
        yield triton


@pytest.fixture
async def connections(triton: ScriptedTriton) -> AsyncIterator[ConnectionPool]:
    connections = ConnectionPool(triton.url, connect_timeout_s=5)
    yield connections
    connections.close()
    await asyncio.sleep(0)


async def until(is_so: Callable[[], bool]) -> None:
    while not is_so():  # noqa: ASYNC110 (of what is counted there is no event)
        await asyncio.sleep(0.001)


async def ask(connections: ConnectionPool, admission: Admission, *, timeout_s: float = 60) -> bytes:
    with await admission.slot():
        _, answer = await connections.request([REQUEST], timeout_s=timeout_s)
        return bytes(answer)


@pytest.mark.parametrize("answer", [b"{}", b"x" * 1_000_000], ids=["small", "large"])
@pytest.mark.parametrize("why", ["left", "late"])
async def test_the_place_is_free_and_the_connection_used_again_when_triton_has_answered(
    connections: ConnectionPool, triton: ScriptedTriton, held: Held, why: str, answer: bytes
) -> None:
    admission = Admission("m", 1)
    held.answer = answer
    asking = asyncio.create_task(ask(connections, admission, timeout_s=0.01 if why == "late" else 60))
    await held.has_request.wait()
    if why == "left":
        asking.cancel()
    with pytest.raises((asyncio.CancelledError, TimeoutError)):
        await asking
    assert admission.in_flight == 1
    held.go_on.set()
    await until(lambda: admission.in_flight == 0)
    assert admission.times.service_s is not None  # it was answered after all, so it is a measure
    assert await ask(connections, admission) == answer
    assert triton.num_connections == 1


async def test_the_place_is_free_when_the_connection_breaks(
    connections: ConnectionPool, triton: ScriptedTriton, held: Held
) -> None:
    admission = Admission("m", 1)
    asking = asyncio.create_task(ask(connections, admission))
    await held.has_request.wait()
    asking.cancel()
    await asyncio.wait([asking])
    held.breaks = True
    held.go_on.set()
    await until(lambda: admission.in_flight == 0)
    assert admission.times.service_s is None
    held.breaks = False
    assert await ask(connections, admission) == b"{}"
    assert triton.num_connections == 2


async def test_what_triton_never_had_whole_is_closed_and_frees_its_place_at_once(
    connections: ConnectionPool, triton: ScriptedTriton
) -> None:
    is_closed = asyncio.Event()

    async def script(upstream: Upstream) -> None:
        await upstream.head()
        await asyncio.sleep(0.05)  # the frontend's end of the line is full by now
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


async def test_a_question_without_a_place_is_closed(connections: ConnectionPool, held: Held) -> None:
    with pytest.raises(TimeoutError):
        await connections.request([REQUEST], timeout_s=0.01)
    held.go_on.set()
    held.breaks = True
    with pytest.raises(TritonUnavailableError):
        await connections.request([REQUEST], timeout_s=5)


async def test_what_is_left_behind_is_closed_with_everything_else(connections: ConnectionPool, held: Held) -> None:
    admission = Admission("m", 1)
    asking = asyncio.create_task(ask(connections, admission))
    await held.has_request.wait()
    asking.cancel()
    await asyncio.wait([asking])
    connections.close()
    await until(lambda: admission.in_flight == 0)


async def test_a_question_after_the_place_was_given_back_does_not_free_it_twice(
    connections: ConnectionPool, held: Held
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
