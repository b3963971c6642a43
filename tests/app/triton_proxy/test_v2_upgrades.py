# SPDX-License-Identifier: Apache-2.0
"""A request to `/v2` with an `Upgrade` header reaches Triton with its body, and frees its slot."""

import httpx2
import pytest

from support.raw_connection import RawConnection, raw_connection_to
from support.scripted_triton import INFER, ScriptedTriton

H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"
BODY = b'{"inputs":[]}'
POST = b"POST %b HTTP/1.1\r\nHost: x\r\n" % INFER.encode() + H2C + b"Content-Type: application/json\r\n"
LENGTH = b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(BODY) + BODY + b"\r\n0\r\n\r\n"


@pytest.mark.parametrize("framed", [LENGTH, CHUNKED])
async def test_the_body_reaches_triton(triton: ScriptedTriton, wire: RawConnection, framed: bytes) -> None:
    for _ in range(2):
        await wire.send(POST + framed)
        assert await wire.response() == (200, b"{}")
    for head, body in triton.requests:
        assert BODY in body
        assert b"upgrade: h2c" not in head.lower()


async def test_clients_that_disconnect_at_once_keep_no_slot(triton: ScriptedTriton, client: httpx2.AsyncClient) -> None:
    for _ in range(40):  # max_in_flight is 2
        async with raw_connection_to(client) as wire:
            await wire.send(POST + LENGTH[:-3])
            wire.close()
    async with raw_connection_to(client) as wire:
        await wire.send(POST + LENGTH)
        assert await wire.response() == (200, b"{}")
