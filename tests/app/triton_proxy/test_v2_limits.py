# SPDX-License-Identifier: Apache-2.0
"""Limits, disconnects and failures of Triton on `/v2`."""

import asyncio
import logging
from collections.abc import Callable

import httpx2
import pytest

from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.core.shutdown import Phase
from support.app_on_socket import listening
from support.raw_connection import RawConnection, raw_connection_to
from support.scripted_triton import INFER, REQUEST, STREAM, ScriptedTriton, Upstream
from support.serving import free_port


class Held:
    """A script of Triton that sets `is_requested` at each complete request, and responds when `go_on` is set."""

    def __init__(self) -> None:
        self.is_requested = asyncio.Event()
        self.go_on = asyncio.Event()
        self.is_closed = asyncio.Event()
        self.num_requests = 0

    async def __call__(self, upstream: Upstream) -> None:
        while True:
            head, _ = await upstream.request()
            if head.startswith(b"POST"):
                self.num_requests += 1
                self.is_requested.set()
                waiting = asyncio.create_task(self.go_on.wait())
                closing = asyncio.create_task(upstream.reader.read(1))
                await asyncio.wait((waiting, closing), return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                if closing.done():
                    self.is_closed.set()
                    return
                closing.cancel()
                await asyncio.gather(closing, return_exceptions=True)
            await upstream.respond()


@pytest.fixture
async def held(triton: ScriptedTriton) -> Held:
    script = Held()
    triton.script = script
    return script


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 (no event reports the app's counts)
        await asyncio.sleep(0.001)


def in_flight(app: TritonFrontend) -> int:
    return app.services.admission.in_flight


async def test_requests_beyond_the_limit_are_rejected_and_status_requests_still_work(
    app: TritonFrontend, client: httpx2.AsyncClient, held: Held
) -> None:
    running = [asyncio.create_task(client.post(path, content=REQUEST)) for path in (INFER, STREAM)]
    await until(lambda: in_flight(app) == held.num_requests == 2)
    for path in (INFER, STREAM, "/v2/models/echo/generate"):
        refused = await client.post(path, content=REQUEST)
        assert refused.status_code == 503
        assert "are running" in refused.json()["error"]
        assert (refused.json()["code"], refused.headers["retry-after"]) == ("overloaded", "1")
        assert refused.json()["request_id"] == refused.headers["x-request-id"]
    assert (await client.get("/v2/health/ready")).status_code == 200
    held.go_on.set()
    assert [(await each).status_code for each in running] == [200, 200]
    await until(lambda: in_flight(app) == 0)
    assert held.num_requests == 2


async def test_a_slow_upload_is_read_completely_before_triton_gets_any_of_it(
    app: TritonFrontend, client: httpx2.AsyncClient, wire: RawConnection, held: Held, triton: ScriptedTriton
) -> None:
    await wire.send(b"POST /v2/models/slow/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\n" + REQUEST[:5])
    others = [asyncio.create_task(client.post(INFER, content=REQUEST)) for _ in range(2)]
    await until(lambda: in_flight(app) == held.num_requests == 2)
    await wire.send(REQUEST[5:])
    status, body = await wire.response()
    assert (status, b"are running" in body) == (503, True)
    assert triton.num_connections == held.num_requests == 2
    held.go_on.set()
    assert [(await each).status_code for each in others] == [200, 200]


@pytest.mark.parametrize("framing", [b"Content-Length: 3000000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"])
async def test_a_body_over_the_limit_is_rejected_while_it_arrives(
    app: TritonFrontend, wire: RawConnection, triton: ScriptedTriton, framing: bytes
) -> None:
    triton.script = Upstream.closed  # type: ignore[assignment]
    await wire.send(b"POST %s HTTP/1.1\r\nHost: x\r\n%s" % (INFER.encode(), framing))
    if b"chunked" in framing:
        for _ in range(30):
            await wire.send(b"186a0\r\n" + b"x" * 100_000 + b"\r\n")
    status, body = await wire.response()
    assert (status, b'"error":"The body is over the limit' in body) == (413, True)
    assert await wire.rest() == b""
    assert in_flight(app) == 0


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET /v2/../v2/health/live", 404),
        (b"GET /v2/models/%2e%2e/config", 404),
        (b"POST /%762/models/echo/infer", 404),
        (b"POST /v2%2Fmodels/echo/infer", 404),
        (b"POST //v2/models/echo/infer", 404),
        (b"HEAD /v2/health/live", 405),
        (b"TRACE /v2", 405),
        (b"POST /v2/logging", 403),
    ],
)
async def test_odd_requests_never_reach_triton(
    wire: RawConnection, triton: ScriptedTriton, request_line: bytes, status: int
) -> None:
    await wire.send(request_line + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    head = (await wire.rest()).partition(b"\r\n\r\n")[0]
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert (b"\r\nallow: GET" in head) == (status == 405)
    assert not triton.requests


async def test_the_host_in_a_request_line_does_not_change_the_destination(
    wire: RawConnection, triton: ScriptedTriton
) -> None:
    await wire.send(b"GET http://127.0.0.1:1/v2/health/live HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n")
    assert await wire.response() == (200, b"{}")
    head = triton.requests[0][0]
    assert head.startswith(b"GET /v2/health/live HTTP/1.1\r\n")
    assert b"127.0.0.1:1\r\n" not in head


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"Transfer-Encoding: gzip\r\n\r\n{}",
        b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"Content-Length: +2\r\n\r\n{}",
        b"Content-Length: 2\r\nX: a\nTransfer-Encoding: chunked\r\n\r\n{}",
    ],
)
async def test_no_request_is_smuggled_in_another(wire: RawConnection, triton: ScriptedTriton, framing: bytes) -> None:
    await wire.send(b"POST %s HTTP/1.1\r\nHost: x\r\n%s" % (INFER.encode(), framing))
    await wire.send(b"GET /v2/logging HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await wire.rest()).startswith(b"HTTP/1.1 400 ")
    assert not triton.requests


async def test_a_disconnect_ends_a_stream(app: TritonFrontend, wire: RawConnection, held: Held) -> None:
    await wire.send(b'POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\n{"inputs":[]}' % STREAM.encode())
    await held.is_requested.wait()
    assert in_flight(app) == 1
    wire.close()
    await held.is_closed.wait()
    await until(lambda: in_flight(app) == 0)


async def test_a_disconnect_ends_an_upload(
    app: TritonFrontend, wire: RawConnection, triton: ScriptedTriton, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        await wire.send(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc" % INFER.encode())
        wire.close()
        await until(lambda: "the client disconnected before" in caplog.text)
    assert in_flight(app) == 0
    assert not [head for head, _ in triton.requests if head.startswith(b"POST")]


async def test_inference_that_triton_continues_after_a_disconnect_keeps_its_slot(
    app: TritonFrontend, client: httpx2.AsyncClient, triton: ScriptedTriton, held: Held
) -> None:
    async with raw_connection_to(client) as wire:
        await wire.send(b'POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\n{"inputs":[]}' % INFER.encode())
        await held.is_requested.wait()
    assert (await client.get("/v2/health/live")).status_code == 200  # gives the app time to notice the disconnect
    assert in_flight(app) == 1
    assert not held.is_closed.is_set()
    held.go_on.set()
    await until(lambda: in_flight(app) == 0)
    num_connections = triton.num_connections
    assert (await client.post(INFER, content=REQUEST)).status_code == 200
    assert triton.num_connections == num_connections  # over the same connection to Triton


async def test_a_triton_that_does_not_listen_is_unavailable() -> None:
    settings = Settings(triton_url=f"http://127.0.0.1:{free_port()}")
    async with listening(TritonFrontend(settings=settings)) as client:
        for response in (await client.get("/v2/health/ready"), await client.post(INFER, content=REQUEST)):
            assert (response.status_code, response.json()["code"]) == (503, "triton_unavailable")
            assert "Nothing was run" in response.json()["error"]


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"", 503, "triton_connection_lost"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", 503, "triton_connection_lost"),
        (b"SSH-2.0-OpenSSH\r\n", 502, "inference_failed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", 502, "inference_failed"),
    ],
)
async def test_a_connection_that_breaks_before_the_response_is_an_error_without_a_retry(
    app: TritonFrontend,
    client: httpx2.AsyncClient,
    triton: ScriptedTriton,
    data: bytes,
    status: int,
    code: str,
) -> None:
    async def script(upstream: Upstream) -> None:
        await upstream.request()
        await upstream.send(data)

    triton.script = script
    response = await client.post(INFER, content=REQUEST)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert (triton.num_connections, in_flight(app)) == (1, 0)


async def test_the_client_notices_an_incomplete_response(
    client: httpx2.AsyncClient, triton: ScriptedTriton, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(upstream: Upstream) -> None:
        await upstream.request()
        await upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")

    triton.script = script
    with caplog.at_level(logging.WARNING), pytest.raises(httpx2.RemoteProtocolError):
        await client.post(INFER, content=REQUEST)
    assert "the response failed after it had begun" in caplog.text


async def test_no_response_within_the_timeout_is_504(triton: ScriptedTriton, held: Held) -> None:
    frontend = TritonFrontend(settings=Settings(triton_url=triton.url, request_timeout_s=0.1))
    async with listening(frontend) as client:
        response = await client.post(INFER, content=REQUEST)
        assert (response.status_code, response.json()["code"]) == (504, "deadline_exceeded")
        assert in_flight(frontend) == 1  # Triton still works on the request
        held.go_on.set()
        await until(lambda: in_flight(frontend) == 0)
        async with raw_connection_to(client) as wire:
            await wire.send(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc" % INFER.encode())
            status, body = await wire.response()
            assert (status, b"did not arrive within" in body) == (504, True)


async def test_a_request_waits_in_the_queue_and_a_disconnect_removes_it(triton: ScriptedTriton, held: Held) -> None:
    app = TritonFrontend(settings=Settings(triton_url=triton.url, max_in_flight=1, max_waiting=1))
    waiting = b'POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\n{"inputs":[]}'
    async with listening(app) as client:
        running = asyncio.create_task(client.post(INFER, content=REQUEST))
        await held.is_requested.wait()
        for path in (INFER, STREAM):
            async with raw_connection_to(client) as wire:
                await wire.send(waiting % path.encode())
                await until(lambda: app.services.admission.waiting == 1)
                assert (await client.post(INFER, content=REQUEST)).status_code == 503
            await until(lambda: app.services.admission.waiting == 0)
        next_one = asyncio.create_task(client.post(INFER, content=REQUEST))
        await until(lambda: app.services.admission.waiting == 1)
        held.go_on.set()
        assert [(await each).status_code for each in (running, next_one)] == [200, 200]
        assert (in_flight(app), held.num_requests) == (0, 2)


async def test_the_clients_timeout_applies_in_the_queue_and_at_triton(triton: ScriptedTriton, held: Held) -> None:
    app = TritonFrontend(settings=Settings(triton_url=triton.url, max_in_flight=1))
    async with listening(app) as client:
        running = asyncio.create_task(client.post(INFER, content=REQUEST))
        await held.is_requested.wait()
        late = await client.post(INFER, content=REQUEST, headers={"X-Request-Timeout": "0.2"})
        assert (late.status_code, late.json()["code"]) == (504, "deadline_exceeded")
        assert "nothing was run" in late.json()["error"]
        held.go_on.set()
        assert (await running).status_code == 200
        refused = await client.post(INFER, content=REQUEST, headers={"X-Request-Timeout": "soon"})
        assert (refused.status_code, refused.json()["code"]) == (400, "invalid_timeout")
    assert held.num_requests == 1


async def test_a_model_that_triton_has_gets_its_own_slots(app: TritonFrontend, client: httpx2.AsyncClient) -> None:
    await client.post(INFER, content=REQUEST)
    await client.post("/v2/models/a%20b/versions/1/infer", content=REQUEST)
    assert [each.model for each in app.services.admission.all] == ["", "echo", "a b"]


async def test_unknown_model_names_take_no_memory(
    app: TritonFrontend, client: httpx2.AsyncClient, triton: ScriptedTriton
) -> None:
    async def script(upstream: Upstream) -> None:
        while True:
            await upstream.request()
            await upstream.respond(b'{"error":"unknown model"}', status=b"404 Not Found")

    triton.script = script
    assert (await client.post(INFER, content=REQUEST)).status_code == 404
    assert [each.model for each in app.services.admission.all] == [""]


@pytest.mark.parametrize("extra", [b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", b"evil"])
@pytest.mark.parametrize("is_late", [False, True])
async def test_unexpected_bytes_from_triton_are_never_a_response(
    client: httpx2.AsyncClient, triton: ScriptedTriton, extra: bytes, is_late: bool
) -> None:
    async def script(upstream: Upstream) -> None:
        await upstream.request()
        if is_late:
            await upstream.respond()
            await upstream.send(extra)
        else:
            await upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}" + extra)
        await upstream.closed()

    triton.script = script
    for _ in range(3):
        assert (await client.post(INFER, content=REQUEST)).content == b"{}"


async def test_a_connection_that_triton_has_closed_is_not_reused(
    client: httpx2.AsyncClient, triton: ScriptedTriton
) -> None:
    async def script(upstream: Upstream) -> None:
        await upstream.request()
        await upstream.respond(headers=b"Connection: close\r\n")

    triton.script = script
    for _ in range(3):
        assert (await client.post(INFER, content=REQUEST)).status_code == 200
    assert triton.num_connections == 3


@pytest.mark.parametrize("path", [INFER, STREAM])
async def test_during_shutdown_only_status_requests_work(
    app: TritonFrontend, client: httpx2.AsyncClient, triton: ScriptedTriton, path: str
) -> None:
    app.drain.reach(Phase.CLOSED)
    response = await client.post(path, json={})
    assert (response.status_code, response.json()["code"]) == (503, "shutting_down")
    assert triton.requests == []
    assert (await client.get("/v2/health/ready")).status_code == 200
