# SPDX-License-Identifier: Apache-2.0
"""Broken HTTP, byte by byte over sockets: every connection is answered or closed in time, and the server stays well."""

import asyncio
import logging
import os
import random
from collections import Counter
from dataclasses import replace

import mutations
import pytest
from answering import LIMITS, Answering, answer, running, whole
from starlette.types import Receive, Scope, Send

from fastapi_triton.errors import FastAPITritonError

SEED = int(os.environ.get("FUZZ_SEED", "1"))
FEW, MANY = 300, int(os.environ.get("FUZZ_CONNECTIONS", "20000"))
AT_ONCE = 50
LIMIT_S = 20
VALID = (
    b"GET /a%20b?c=d HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi",
    b"GET /a HTTP/1.0\r\n\r\n",
    b"HEAD /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    b"GET /a HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http://x/a HTTP/1.1\r\nHost: x\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    try:
        await answer(send, await whole(receive))
    except FastAPITritonError as error:
        await answer(send, b"", status=error.status)


async def talk(port: int, said: bytes, chance: random.Random) -> bytes:
    """What comes back for these bytes, sent in one piece or two."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        at = chance.randrange(len(said) + 1) if chance.random() < 0.3 else len(said)
        writer.write(said[:at])
        await asyncio.sleep(0)
        writer.write(said[at:])
        async with asyncio.timeout(LIMIT_S):
            return await reader.read()  # up to the end, which the server makes
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def fuzz(count: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    chance = random.Random(SEED)  # noqa: S311
    statuses: Counter[bytes] = Counter()
    soon = replace(LIMITS, head_s=0.2, body_pause_s=0.2, body_s=0.5, idle_s=0.2, max_connections=10 * AT_ONCE)
    async with running(Answering(soon, echo)) as server:
        for _ in range(0, count, AT_ONCE):
            said = [
                b"".join(mutations.bytes_of(chance, chance.choice(VALID)) for _ in range(chance.choice((1, 1, 2, 3))))
                for _ in range(AT_ONCE)
            ]
            told = await asyncio.gather(*(talk(server.port, each, chance) for each in said))
            statuses.update(each.partition(b"\r\n")[0] for each in told)
        while server.num_connections:  # noqa: ASYNC110 (there is no event for it)
            await asyncio.sleep(0.01)
        assert not server.server.server_state.tasks
    assert {line.split(b" ")[1] for line in statuses if line} <= {b"100", b"200", b"400", b"408", b"431"}, statuses
    assert statuses[b"HTTP/1.1 200 OK"] > count / 10
    assert statuses[b"HTTP/1.1 400 Bad Request"] > count / 10
    assert [record.getMessage() for record in caplog.records] == []


async def test_a_little_broken_http_is_answered_or_closed(caplog: pytest.LogCaptureFixture) -> None:
    await fuzz(FEW, caplog)


@pytest.mark.fuzz
@pytest.mark.timeout(3600)
async def test_much_broken_http_is_answered_or_closed(caplog: pytest.LogCaptureFixture) -> None:
    await fuzz(MANY, caplog)
