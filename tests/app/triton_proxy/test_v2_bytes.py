# SPDX-License-Identifier: Apache-2.0
"""What goes to Triton and what comes back is what was sent, but for what concerns one connection alone."""

import asyncio
import gzip

import httpx2
import pytest

from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.testing import FakeTriton
from support.app_on_socket import listening
from support.raw_connection import RawConnection
from support.scripted_triton import INFER, REQUEST, STREAM, ScriptedTriton, Upstream


async def test_path_query_and_body_reach_triton_unchanged(caller: httpx2.AsyncClient, triton: ScriptedTriton) -> None:
    data = bytes(range(256)) * 4000
    told = b'{"inputs": [{"name":"a","datatype":"UINT8","shape":[4,256000],"parameters":{"binary_data_size":1024000}}]}'
    headers = {"Inference-Header-Content-Length": str(len(told)), "Content-Type": "application/octet-stream"}
    answer = await caller.post("/v2/models/a%20b(c)~/infer?x=%2F..&y", content=told + data, headers=headers)
    assert (answer.status_code, answer.content) == (200, b"{}")
    (config, _), (head, arrived) = triton.requests
    assert config.startswith(b"GET /v2/models/a%20b(c)~/config HTTP/1.1\r\n")
    assert head.startswith(b"POST /v2/models/a%20b(c)~/infer?x=%2F..&y HTTP/1.1\r\n")
    assert b"\r\ninference-header-content-length: %d\r\n" % len(told) in head
    assert b"\r\ncontent-type: application/octet-stream\r\n" in head
    assert arrived == told + data


async def test_hop_by_hop_headers_of_the_client_are_not_forwarded(wire: RawConnection, triton: ScriptedTriton) -> None:
    await wire.say(
        b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: evil\r\nConnection: keep-alive, X-Private\r\nX-Private: 1\r\n"
        b"Keep-Alive: 5\r\nTE: trailers\r\nProxy-Authorization: x\r\nAuthorization: Bearer secret\r\nCookie: a=b\r\n"
        b"Expect: 100-continue\r\nAccept-Encoding: gzip\r\nUser-Agent: x\r\nX-Request-ID: abc\r\ntraceparent: 00-1\r\n"
        b'Content-Length: 13\r\n\r\n{"inputs":[]}'
    )
    await wire.reader.readuntil(b"100 Continue\r\n\r\n")
    assert await wire.answer() == (200, b"{}")
    names = dict(line.split(b": ", 1) for line in triton.requests[0][0].split(b"\r\n")[1:-2])
    assert names == {
        b"host": triton.url.removeprefix("http://").encode(),
        b"accept-encoding": b"gzip",
        b"x-request-id": b"abc",
        b"traceparent": b"00-1",
        b"content-length": b"13",
    }


async def test_tritons_headers_are_returned_except_hop_by_hop_headers(
    caller: httpx2.AsyncClient, triton: ScriptedTriton
) -> None:
    async def script(upstream: Upstream) -> None:
        await upstream.request()
        told = b"Inference-Header-Content-Length: 5\r\nKeep-Alive: 9\r\nServer: x\r\nContent-Encoding: gzip\r\n"
        await upstream.answer(gzip.compress(b"abc"), status=b"418 I'm a teapot", headers=told)

    triton.script = script
    answer = await caller.post(INFER, content=REQUEST, headers={"X-Request-ID": "abc"})
    assert (answer.status_code, answer.content) == (418, b"abc")
    assert answer.headers["inference-header-content-length"] == "5"
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["x-request-id"] == "abc"
    assert "keep-alive" not in answer.headers
    assert answer.headers.get_list("server") == ["uvicorn"]


async def test_a_chunked_body_is_forwarded_with_its_length(caller: httpx2.AsyncClient, triton: ScriptedTriton) -> None:
    async def pieces():
        for each in REQUEST:
            yield bytes([each])

    answer = await caller.post(INFER, content=pieces())
    assert answer.status_code == 200
    ((head, body),) = triton.requests
    assert b"transfer-encoding" not in head
    assert b"\r\ncontent-length: %d\r\n" % len(REQUEST) in head
    assert body == REQUEST


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_slow_client_receives_megabytes_intact(
    caller: httpx2.AsyncClient, triton: ScriptedTriton, is_chunked: bool
) -> None:
    sent = bytes(range(251)) * 50_000

    async def script(upstream: Upstream) -> None:
        await upstream.request()
        if not is_chunked:
            await upstream.answer(sent)
            return
        await upstream.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for start in range(0, len(sent), 100_000):
            piece = sent[start : start + 100_000]
            await upstream.say(b"%x\r\n%s\r\n" % (len(piece), piece))
        await upstream.say(b"0\r\n\r\n")

    triton.script = script
    async with caller.stream("POST", INFER, content=REQUEST) as answer:
        arrived = bytearray()
        async for piece in answer.aiter_raw():
            arrived += piece
            await asyncio.sleep(0)
    assert bytes(arrived) == sent


async def test_a_response_that_ends_with_its_connection_is_complete(
    caller: httpx2.AsyncClient, triton: ScriptedTriton
) -> None:
    async def script(upstream: Upstream) -> None:
        await upstream.request()
        await upstream.say(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 OK\r\n\r\nab")
        await upstream.say(b"cd")

    triton.script = script
    assert (await caller.post(INFER, content=REQUEST)).content == b"abcd"


async def test_each_event_is_sent_at_once(caller: httpx2.AsyncClient, triton: ScriptedTriton) -> None:
    go_on = asyncio.Event()

    async def script(upstream: Upstream) -> None:
        await upstream.request()
        await upstream.say(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"9\r\ndata: a\n\n\r\n"
        )
        await go_on.wait()
        await upstream.say(b"9\r\ndata: b\n\n\r\n0\r\n\r\n")

    triton.script = script
    async with caller.stream("POST", STREAM, json={}) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        lines = answer.aiter_lines()
        assert await anext(lines) == "data: a"
        go_on.set()
        assert [line async for line in lines] == ["", "data: b", ""]


async def test_one_connection_serves_many_requests(caller: httpx2.AsyncClient, triton: ScriptedTriton) -> None:
    for _ in range(3):
        assert (await caller.post(INFER, content=REQUEST)).status_code == 200
        assert (await caller.get("/v2/health/ready")).status_code == 200
    assert triton.num_connections == 1


async def test_credentials_in_tritons_url_are_sent_to_triton(triton: ScriptedTriton) -> None:
    settings = Settings(triton_url=triton.url.replace("http://", "http://me:a%40b@"))
    async with listening(TritonFrontend(settings=settings)) as caller:
        await caller.get("/v2", headers={"Authorization": "Bearer mine"})
    head = triton.requests[0][0]
    assert b"\r\nauthorization: Basic bWU6YUBi\r\n" in head  # me:a@b
    assert b"Bearer" not in head
    assert b"\r\nhost: 127.0.0.1:" in head


async def test_a_setting_disables_v2(triton: ScriptedTriton) -> None:
    closed = TritonFrontend(settings=Settings(triton_url=triton.url, v2=False))
    for frontend in (closed, TritonFrontend(triton=FakeTriton())):
        async with listening(frontend) as caller:
            assert (await caller.get("/v2")).json()["code"] == "not_found"
    assert not triton.requests


async def test_a_setting_allows_administration(triton: ScriptedTriton, caller: httpx2.AsyncClient) -> None:
    path = "/v2/repository/models/echo/load"
    refused = await caller.post(path, json={})
    assert (refused.status_code, refused.json()["code"]) == (403, "v2_administration_closed")
    assert not triton.requests
    async with listening(TritonFrontend(settings=Settings(triton_url=triton.url, v2_admin=True))) as admin:
        assert (await admin.post(path, json={})).status_code == 200
    assert triton.requests[0][0].startswith(b"POST /v2/repository/models/echo/load HTTP/1.1\r\n")
