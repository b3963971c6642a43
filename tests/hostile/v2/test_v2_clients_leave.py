# SPDX-License-Identifier: Apache-2.0
"""A client of `/v2` that disconnects frees its slot in every state of its request, unless Triton works on it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import httpx2
import pytest

from fastapi_triton import Settings, TritonFrontend
from support.app_on_socket import listening
from support.raw_connection import RawConnection, raw_connection_to
from support.scripted_triton import INFER, REQUEST, STREAM, ScriptedTriton, Upstream, scripted_triton

MAX_IN_FLIGHT = 4
GENERATE = "/v2/models/echo/generate"
BODY = b"Content-Length: %d\r\n\r\n%b" % (len(REQUEST), REQUEST)
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"
# More than the kernel buffers for a Triton that does not read.
HUGE = b'{"inputs":[],"id":"' + b"x" * 15_000_000 + b'"}'


@pytest.fixture
async def triton() -> AsyncIterator[ScriptedTriton]:
    async with scripted_triton() as scripted:
        yield scripted


@pytest.fixture
def app(triton: ScriptedTriton) -> TritonFrontend:
    settings = Settings(
        triton_url=triton.url, max_in_flight=MAX_IN_FLIGHT, max_waiting=MAX_IN_FLIGHT, watch_interval_s=3600
    )
    return TritonFrontend(settings=settings)


@pytest.fixture
async def client(app: TritonFrontend) -> AsyncIterator[httpx2.AsyncClient]:
    async with listening(app) as one:
        yield one


@pytest.fixture
async def wires(client: httpx2.AsyncClient) -> AsyncIterator[list[RawConnection]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(raw_connection_to(client)) for _ in range(32)]


def post(path: str, rest: bytes = BODY) -> bytes:
    return b"POST %s HTTP/1.1\r\nHost: x\r\n%b" % (path.encode(), rest)


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 (there is no event for it)
        await asyncio.sleep(0.001)


async def all_send_and_close(wires: list[RawConnection], data: bytes) -> None:
    await asyncio.gather(*(wire.send(data) for wire in wires))
    for wire in wires:
        wire.close()


def is_free(app: TritonFrontend) -> bool:
    return app.services.admission.in_flight == app.services.admission.waiting == 0


@pytest.mark.parametrize("path", [INFER, STREAM, GENERATE, "/v2/repository/index"])
@pytest.mark.parametrize(
    "rest",
    [H2C + BODY, H2C + b"Content-Length: 13\r\n\r\n", H2C + b"Transfer-Encoding: chunked\r\n\r\n", BODY[:-1], b"X: y"],
    ids=["upgrade", "upgrade without its body", "upgrade without a chunk", "half a body", "half a head"],
)
async def test_32_simultaneous_disconnects_block_no_other_request(
    app: TritonFrontend,
    client: httpx2.AsyncClient,
    wires: list[RawConnection],
    triton: ScriptedTriton,
    path: str,
    rest: bytes,
) -> None:
    await all_send_and_close(wires, post(path, rest))
    for _ in range(2 * MAX_IN_FLIGHT):
        assert (await client.post(INFER, content=REQUEST)).status_code == 200
    await until(lambda: is_free(app))
    assert triton.failures == []


@pytest.mark.parametrize("path", [INFER, STREAM, GENERATE])
async def test_upgrade_is_ignored(wires: list[RawConnection], triton: ScriptedTriton, path: str) -> None:
    await wires[0].send(post(path, H2C + BODY))
    assert await wires[0].response() == (200, b"{}")
    head, body = triton.requests[-1]
    assert body == REQUEST
    assert b"upgrade" not in head.lower()
    assert b"http2" not in head.lower()


@pytest.mark.parametrize("path", [INFER, STREAM, GENERATE])
async def test_disconnects_of_queued_requests_leave_the_queue(
    app: TritonFrontend, client: httpx2.AsyncClient, wires: list[RawConnection], triton: ScriptedTriton, path: str
) -> None:
    go_on = asyncio.Event()

    async def hold(upstream: Upstream) -> None:
        while True:
            triton.requests.append(await upstream.request())
            await go_on.wait()
            await upstream.respond()

    triton.script = hold
    running = [asyncio.create_task(client.post(INFER, content=REQUEST)) for _ in range(MAX_IN_FLIGHT)]
    await until(lambda: len(triton.requests) == MAX_IN_FLIGHT)
    waiting = wires[:MAX_IN_FLIGHT]
    await asyncio.gather(*(wire.send(post(path)) for wire in waiting))
    await until(lambda: app.services.admission.waiting == MAX_IN_FLIGHT)
    for wire in waiting:
        wire.close()
    await until(lambda: app.services.admission.waiting == 0)
    go_on.set()
    assert [(await each).status_code for each in running] == [200] * MAX_IN_FLIGHT
    await until(lambda: is_free(app))
    assert len(triton.requests) == MAX_IN_FLIGHT


@pytest.mark.parametrize("path", [INFER, STREAM, GENERATE])
async def test_body_that_triton_does_not_read_is_dropped_on_disconnect(
    app: TritonFrontend, wires: list[RawConnection], triton: ScriptedTriton, path: str
) -> None:
    is_begun, is_closed = asyncio.Event(), asyncio.Event()

    async def read_no_further(upstream: Upstream) -> None:
        await upstream.head()
        is_begun.set()
        upstream.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await until(lambda: app.services.admission.in_flight == 0)
        upstream.writer.transport.resume_reading()  # type: ignore[attr-defined]
        await upstream.closed()
        is_closed.set()

    triton.script = read_no_further
    await wires[0].send(post(path, b"Content-Length: %d\r\n\r\n%b" % (len(HUGE), HUGE)))
    await is_begun.wait()
    wires[0].close()
    await is_closed.wait()
    await until(lambda: is_free(app))


@pytest.mark.parametrize("path", [INFER, GENERATE])
async def test_slot_is_held_after_a_disconnect_until_triton_is_done(
    app: TritonFrontend, wires: list[RawConnection], triton: ScriptedTriton, path: str
) -> None:
    received = asyncio.Queue[Upstream]()
    may_finish = asyncio.Event()

    async def hold(upstream: Upstream) -> None:
        await upstream.request()
        received.put_nowait(upstream)
        await may_finish.wait()

    triton.script = hold
    for wire in wires[:MAX_IN_FLIGHT]:
        await wire.send(post(path))
    upstreams = [await received.get() for _ in range(MAX_IN_FLIGHT)]
    for wire in wires[:MAX_IN_FLIGHT]:
        wire.close()
    assert app.services.admission.in_flight == MAX_IN_FLIGHT
    await upstreams[0].respond()
    upstreams[1].writer.close()
    upstreams[2].writer.transport.abort()
    await until(lambda: app.services.admission.in_flight == 1)
    await upstreams[3].send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")  # its head ends Triton's work
    await until(lambda: is_free(app))
    may_finish.set()


@pytest.mark.parametrize("path", [INFER, STREAM])
async def test_disconnect_of_a_client_that_stopped_reading_frees_its_slot(
    app: TritonFrontend, wires: list[RawConnection], triton: ScriptedTriton, path: str
) -> None:
    is_closed = asyncio.Event()

    async def pour(upstream: Upstream) -> None:
        head, _ = await upstream.request()
        if not head.startswith(b"POST"):  # the heartbeat
            await upstream.respond()
            return
        try:
            await upstream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True:
                await upstream.send(b"186a0\r\n%b\r\n" % (b"x" * 100_000))
        except ConnectionError:
            is_closed.set()

    triton.script = pour
    wire = wires[0]
    await wire.send(post(path))
    await wire.reader.readexactly(100)  # no more
    if path == STREAM:
        assert app.services.admission.in_flight == 1
    wire.close()
    await is_closed.wait()
    await until(lambda: is_free(app))


async def test_get_requests_of_disconnected_clients_are_dropped(
    client: httpx2.AsyncClient, wires: list[RawConnection], triton: ScriptedTriton
) -> None:
    num_asked = num_closed = 0

    async def be_silent(upstream: Upstream) -> None:
        nonlocal num_asked, num_closed
        head, _ = await upstream.request()
        if b"/v2/models/echo/stats" in head:
            num_asked += 1
            await upstream.closed()
            num_closed += 1
        else:
            await upstream.respond()

    triton.script = be_silent
    for _ in range(3):  # more than there are connections for polls
        async with AsyncExitStack() as stack:
            asking = [await stack.enter_async_context(raw_connection_to(client)) for _ in range(32)]
            before = num_asked
            for wire in asking:
                await wire.send(b"GET /v2/models/echo/stats HTTP/1.1\r\nHost: x\r\n\r\n")
            await until(lambda before=before: num_asked == before + 32)  # type: ignore[misc]
        await until(lambda: num_closed == num_asked)
    assert (await client.get("/v2/health/ready")).status_code == 200
    assert num_closed == 96
