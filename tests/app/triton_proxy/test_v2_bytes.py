# SPDX-License-Identifier: Apache-2.0
"""Requests and responses pass through `/v2` unchanged, except for hop-by-hop headers."""

import asyncio
import gzip

import httpx2
import pytest

from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.testing import FakeTriton
from support.app_on_socket import listening
from support.raw_connection import RawConnection
from support.scripted_triton import INFER, REQUEST, STREAM, ScriptedTriton, Upstream


async def test_path_query_and_body_reach_triton_unchanged(client: httpx2.AsyncClient, triton: ScriptedTriton) -> None:
    data = bytes(range(256)) * 4000
    text = b'{"inputs": [{"name":"a","datatype":"UINT8","shape":[4,256000],"parameters":{"binary_data_size":1024000}}]}'
    headers = {"Inference-Header-Content-Length": str(len(text)), "Content-Type": "application/octet-stream"}
    response = await client.post("/v2/models/a%20b(c)~/infer?x=%2F..&y", content=text + data, headers=headers)
    assert (response.status_code, response.content) == (200, b"{}")
    (config, _), (head, arrived) = triton.requests
    assert config.startswith(b"GET /v2/models/a%20b(c)~/config HTTP/1.1\r\n")
    assert head.startswith(b"POST /v2/models/a%20b(c)~/infer?x=%2F..&y HTTP/1.1\r\n")
    assert b"\r\ninference-header-content-length: %d\r\n" % len(text) in head
    assert b"\r\ncontent-type: application/octet-stream\r\n" in head
    assert arrived == text + data


async def test_hop_by_hop_headers_of_the_client_are_not_forwarded(wire: RawConnection, triton: ScriptedTriton) -> None:
    await wire.send(
        b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: evil\r\nConnection: keep-alive, X-Private\r\nX-Private: 1\r\n"
        b"Keep-Alive: 5\r\nTE: trailers\r\nProxy-Authorization: x\r\nAuthorization: Bearer secret\r\nCookie: a=b\r\n"
        b"Expect: 100-continue\r\nAccept-Encoding: gzip\r\nUser-Agent: x\r\nX-Request-ID: abc\r\ntraceparent: 00-1\r\n"
        b'Content-Length: 13\r\n\r\n{"inputs":[]}'
    )
    await wire.reader.readuntil(b"100 Continue\r\n\r\n")
    assert await wire.response() == (200, b"{}")
    names = dict(line.split(b": ", 1) for line in triton.requests[0][0].split(b"\r\n")[1:-2])
    assert names == {
        b"host": triton.url.removeprefix("http://").encode(),
        b"accept-encoding": b"gzip",
        b"x-request-id": b"abc",
        b"traceparent": b"00-1",
        b"content-length": b"13",
    }


async def test_tritons_headers_are_returned_except_hop_by_hop_headers(
    client: httpx2.AsyncClient, triton: ScriptedTriton
) -> None:
    async def script(upstream: Upstream) -> None:
        await upstream.request()
        sent = b"Inference-Header-Content-Length: 5\r\nKeep-Alive: 9\r\nServer: x\r\nContent-Encoding: gzip\r\n"
        await upstream.respond(gzip.compress(b"abc"), status=b"418 I'm a teapot", headers=sent)

    triton.script = script
    response = await client.post(INFER, content=REQUEST, headers={"X-Request-ID": "abc"})
    assert (response.status_code, response.content) == (418, b"abc")
    assert response.headers["inference-header-content-length"] == "5"
    assert response.headers["content-encoding"] == "gzip"
    assert response.headers["x-request-id"] == "abc"
    assert "keep-alive" not in response.headers
    assert response.headers.get_list("server") == ["uvicorn"]


async def test_a_chunked_body_is_forwarded_with_its_length(client: httpx2.AsyncClient, triton: ScriptedTriton) -> None:
    async def pieces():
        for each in REQUEST:
            yield bytes([each])

    response = await client.post(INFER, content=pieces())
    assert response.status_code == 200
    ((head, body),) = triton.requests
    assert b"transfer-encoding" not in head
    assert b"\r\ncontent-length: %d\r\n" % len(REQUEST) in head
    assert body == REQUEST


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_slow_client_receives_megabytes_intact(
    client: httpx2.AsyncClient, triton: ScriptedTriton, is_chunked: bool
) -> None:
    sent = bytes(range(251)) * 50_000

    async def script(upstream: Upstream) -> None:
        await upstream.request()
        if not is_chunked:
            await upstream.respond(sent)
            return
        await upstream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for start in range(0, len(sent), 100_000):
            piece = sent[start : start + 100_000]
            await upstream.send(b"%x\r\n%s\r\n" % (len(piece), piece))
        await upstream.send(b"0\r\n\r\n")

    triton.script = script
    async with client.stream("POST", INFER, content=REQUEST) as response:
        arrived = bytearray()
        async for piece in response.aiter_raw():
            arrived += piece
            await asyncio.sleep(0)
    assert bytes(arrived) == sent


async def test_a_response_that_ends_with_its_connection_is_complete(
    client: httpx2.AsyncClient, triton: ScriptedTriton
) -> None:
    async def script(upstream: Upstream) -> None:
        await upstream.request()
        await upstream.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 OK\r\n\r\nab")
        await upstream.send(b"cd")

    triton.script = script
    assert (await client.post(INFER, content=REQUEST)).content == b"abcd"


async def test_each_event_is_sent_at_once(client: httpx2.AsyncClient, triton: ScriptedTriton) -> None:
    go_on = asyncio.Event()

    async def script(upstream: Upstream) -> None:
        await upstream.request()
        await upstream.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"9\r\ndata: a\n\n\r\n"
        )
        await go_on.wait()
        await upstream.send(b"9\r\ndata: b\n\n\r\n0\r\n\r\n")

    triton.script = script
    async with client.stream("POST", STREAM, json={}) as response:
        assert response.headers["content-type"] == "text/event-stream"
        lines = response.aiter_lines()
        assert await anext(lines) == "data: a"
        go_on.set()
        assert [line async for line in lines] == ["", "data: b", ""]


async def test_one_connection_serves_many_requests(client: httpx2.AsyncClient, triton: ScriptedTriton) -> None:
    for _ in range(3):
        assert (await client.post(INFER, content=REQUEST)).status_code == 200
        assert (await client.get("/v2/health/ready")).status_code == 200
    assert triton.num_connections == 1


async def test_credentials_in_tritons_url_are_sent_to_triton(triton: ScriptedTriton) -> None:
    settings = Settings(triton_url=triton.url.replace("http://", "http://me:a%40b@"))
    async with listening(TritonFrontend(settings=settings)) as client:
        await client.get("/v2", headers={"Authorization": "Bearer mine"})
    head = triton.requests[0][0]
    assert b"\r\nauthorization: Basic bWU6YUBi\r\n" in head  # me:a@b
    assert b"Bearer" not in head
    assert b"\r\nhost: 127.0.0.1:" in head


async def test_a_setting_disables_v2(triton: ScriptedTriton) -> None:
    closed = TritonFrontend(settings=Settings(triton_url=triton.url, v2=False))
    for frontend in (closed, TritonFrontend(triton=FakeTriton())):
        async with listening(frontend) as client:
            assert (await client.get("/v2")).json()["code"] == "not_found"
    assert not triton.requests


async def test_a_setting_allows_administration(triton: ScriptedTriton, client: httpx2.AsyncClient) -> None:
    path = "/v2/repository/models/echo/load"
    refused = await client.post(path, json={})
    assert (refused.status_code, refused.json()["code"]) == (403, "v2_administration_closed")
    assert not triton.requests
    async with listening(TritonFrontend(settings=Settings(triton_url=triton.url, v2_admin=True))) as admin:
        assert (await admin.post(path, json={})).status_code == 200
    assert triton.requests[0][0].startswith(b"POST /v2/repository/models/echo/load HTTP/1.1\r\n")
