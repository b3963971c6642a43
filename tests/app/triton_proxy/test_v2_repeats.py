# SPDX-License-Identifier: Apache-2.0
"""The requests that `/v2` sends to Triton again when the connection breaks."""

import httpx2
import pytest

from support.scripted_triton import INFER, REQUEST, STREAM, ScriptedTriton, Upstream

CONFIG = "/v2/models/echo/config"


@pytest.mark.parametrize(
    ("method", "path", "num_sent"),
    [("GET", CONFIG, 2), ("POST", INFER, 1), ("POST", STREAM, 1), ("POST", "/v2/repository/index", 1)],
)
async def test_only_a_status_request_without_a_body_is_retried(
    client: httpx2.AsyncClient, triton: ScriptedTriton, method: str, path: str, num_sent: int
) -> None:
    async def lose_first(upstream: Upstream) -> None:
        head, body = await upstream.request()
        if path.encode() in head:
            triton.requests.append((head, body))
            if len(triton.requests) > 1:
                await upstream.respond(b'{"answered": "again"}')

    triton.script = lose_first
    response = await client.request(method, path, content=REQUEST if method == "POST" else None)
    assert len(triton.requests) == num_sent
    if num_sent == 2:
        assert (response.status_code, response.json()) == (200, {"answered": "again"})
    else:
        assert (response.status_code, response.json()["code"]) == (503, "triton_connection_lost")


async def test_a_response_that_has_begun_is_never_retried(client: httpx2.AsyncClient, triton: ScriptedTriton) -> None:
    async def break_off(upstream: Upstream) -> None:
        head, body = await upstream.request()
        if CONFIG.encode() in head:
            triton.requests.append((head, body))
            await upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")

    triton.script = break_off
    with pytest.raises(httpx2.RemoteProtocolError):
        await client.get(CONFIG)
    assert len(triton.requests) == 1
