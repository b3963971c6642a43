# SPDX-License-Identifier: Apache-2.0
"""HEAD returns the headers of GET without the body, on every route."""

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest
from fastapi import Response
from fastapi.responses import StreamingResponse

from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.testing import FakeTriton
from support.app_on_socket import listening
from support.scribble_app import MODEL

CHANGING = {"date", "x-request-id", "server-timing", "content-length", "transfer-encoding"}
PATHS = (
    "/", "/health/live", "/health/ready", "/health/startup", "/metrics", "/models", f"/models/{MODEL}", "/docs",
    "/openapi.json", "/v1/models", "/sdapi/v1/options", "/sdapi/v1/progress", "/sdapi/v1/samplers", "/nothing",
)  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
async def test_head_returns_the_headers_of_get(client: httpx2.AsyncClient, path: str) -> None:
    get, head = await client.get(path), await client.head(path)
    assert head.status_code == get.status_code
    assert head.content == b""
    expected = {name: value for name, value in get.headers.items() if name not in CHANGING}
    assert {name: value for name, value in head.headers.items() if name not in CHANGING} == expected


async def test_head_is_followed_by_the_next_response_on_the_connection(app: TritonFrontend) -> None:
    async with listening(app) as client:
        for path in ("/health/live", "/metrics", "/docs", "/models"):
            assert (await client.head(path)).status_code == (await client.get(path)).status_code
        live = await client.head("/health/live")
        assert live.headers["content-length"] == str(len((await client.get("/health/live")).content))
        metrics = (await client.get("/metrics")).text
        assert 'method="HEAD",model="",route="/health/live",status="200"' in metrics


async def test_head_of_a_post_route_gets_405(client: httpx2.AsyncClient, app: TritonFrontend) -> None:
    (endpoint,) = app.endpoints
    assert (await client.head(endpoint.path)).status_code == 405


async def test_head_of_a_stream_ends_and_a_route_may_define_head(triton: FakeTriton) -> None:
    app = TritonFrontend(triton=triton, settings=Settings())
    ended = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x"
                await asyncio.sleep(0.001)
        finally:
            ended.set()

    @app.get("/endless")
    async def stream() -> StreamingResponse:
        return StreamingResponse(endless(), media_type="text/plain")

    @app.head("/own")
    async def own() -> Response:
        return Response(headers={"x-own": "1"})

    @app.get("/own")
    async def other() -> str:
        return "x"

    async with listening(app) as client:
        assert (await client.head("/endless")).status_code == 200
        await ended.wait()
        assert (await client.head("/own")).headers["x-own"] == "1"
        assert (await client.get("/own")).json() == "x"
