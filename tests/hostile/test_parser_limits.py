# SPDX-License-Identifier: Apache-2.0
"""Limits hold in every state of the parser, however the bytes are split, and pipelined requests wait unparsed."""

import asyncio
import json
import tracemalloc

import pytest
from starlette.types import Receive, Scope, Send

from fastapi_triton.serving.refusals import MAX_HEAD_BYTES, MAX_HEADERS
from support.in_memory_connection import MemoryConnection
from support.scripted_app import echo, respond, whole

READ = 256 * 1024  # what uvloop reads at once
POST = b"POST /a HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
LENGTH = POST + b"Content-Length: 3\r\n\r\nabc"
GET = b"GET /b HTTP/1.1\r\n\r\n"

ENDLESS = {
    "header fields": (POST, b"a:\r\n", 431),
    "a header field": (POST + b"a:", b"b", 431),
    "a field name": (POST, b"b", 431),
    "white space": (POST + b"a:", b" ", 431),
    "a path": (b"GET /", b"a", 431),
    "a query": (b"GET /?", b"a", 431),
    "trailer fields": (CHUNKED + b"3\r\nabc\r\n0\r\n", b"a:\r\n", 431),
    "a trailer field": (CHUNKED + b"0\r\na:", b"b", 431),
    "a chunk extension": (CHUNKED + b"3", b";a=b", 431),
    "chunk extensions": (CHUNKED, b"1;" + b"a" * 1000 + b"\r\nx\r\n", 400),
}


async def told(scope: Scope, receive: Receive, send: Send) -> None:
    """Reports what reading the body raises, as our apps do."""
    try:
        await echo(scope, receive, send)
    except Exception as error:  # noqa: BLE001 (whatever it is)
        await respond(send, b"", (b"connection", b"close"), status=error.status)  # type: ignore[attr-defined]


@pytest.mark.parametrize("size", [READ, 1000])
@pytest.mark.parametrize(("first", "piece", "status"), ENDLESS.values(), ids=ENDLESS)
async def test_nothing_is_endless(first: bytes, piece: bytes, status: int, size: int) -> None:
    block = piece * max(1, size // len(piece))
    connection = MemoryConnection(told, is_ours=True)
    connection.feed(first)
    tracemalloc.start()
    for _ in range(8_000_000 // size):
        if not connection.transport.is_paused:
            connection.feed(block)
        await asyncio.sleep(0)
        if connection.transport.is_closed:
            break
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [each[0] for each in await connection.responses(1)] == [status]
    assert peak < 4_000_000
    connection.close()


def with_fields(num: int) -> bytes:
    return POST + b"".join(b"x-%d: y\r\n" % number for number in range(num - 1)) + b"\r\n"


async def test_as_many_header_fields_as_allowed_pass_and_one_more_does_not() -> None:
    for num, status in ((MAX_HEADERS, 200), (MAX_HEADERS + 1, 431)):
        connection = MemoryConnection(echo)
        connection.feed(with_fields(num))
        assert [each[0] for each in await connection.responses(1)] == [status]
        connection.close()


@pytest.mark.parametrize("behind", [b"", LENGTH, POST + b"Content-Length: 100000\r\n\r\n" + b"x" * 100_000])
async def test_a_head_has_the_same_limit_wherever_it_begins_and_however_it_comes(behind: bytes) -> None:
    for size, status in ((MAX_HEAD_BYTES - 1000, 200), (MAX_HEAD_BYTES + 1000, 431)):
        data = behind + b"GET / HTTP/1.1\r\nx: " + b"y" * size + b"\r\n\r\n"
        for step in (len(data), len(data) - 100, 50_000, 1460):
            connection = MemoryConnection(echo)
            connection.feed(*(data[at : at + step] for at in range(0, len(data), step)))
            got = [each[0] for each in await connection.responses(2 if behind else 1)]
            assert got == [200] * bool(behind) + [status], (size, step)
            connection.close()


async def test_trailer_fields_are_no_header_fields() -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await respond(send, await whole(receive))

    connection = MemoryConnection(app)
    connection.feed(CHUNKED + b"3\r\nabc\r\n0\r\nHost: evil\r\nAuthorization: Bearer x\r\nExpect: 100-continue\r\n\r\n")
    assert await connection.responses(1) == [(200, b"abc")]
    connection.close()
    assert seen[0]["headers"] == [(b"host", b"x"), (b"transfer-encoding", b"chunked")]


async def test_pipelined_requests_are_parsed_as_their_turn_comes() -> None:
    go_on = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await go_on.wait()
        await respond(send, scope["path"].encode())

    connection = MemoryConnection(app)
    paths = [b"/%d" % number for number in range(8000)]
    connection.feed(b"".join(b"GET %b HTTP/1.1\r\n\r\n" % path for path in paths))
    await asyncio.sleep(0)
    assert len(connection.protocol.pipeline) < 2000
    assert connection.transport.is_paused
    go_on.set()
    assert await connection.responses(8000) == [(200, path) for path in paths]
    assert not connection.transport.is_paused
    connection.close()


async def test_reading_stays_paused_while_an_app_waits_for_its_client_to_leave() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await whole(receive)
        await receive()

    connection = MemoryConnection(app)
    connection.feed(LENGTH + GET * 10_000)
    for _ in range(10):
        await asyncio.sleep(0)
    assert connection.transport.is_paused
    assert len(connection.protocol.pipeline) < 2000
    connection.close()
    await asyncio.gather(*connection.protocol.tasks)


@pytest.mark.parametrize("bad", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"a:\r\n" * 300 + b"\r\n"])
async def test_a_bad_request_behind_others_is_refused_after_their_responses(bad: bytes) -> None:
    data = LENGTH + GET + bad
    for step in (len(data), 50):
        connection = MemoryConnection(echo)
        connection.feed(*(data[at : at + step] for at in range(0, len(data), step)))
        first, second, third = await connection.responses(3)
        assert (first, second) == ((200, b"/a abc"), (200, b"/b "))
        assert third[0] in (400, 431)
        assert json.loads(third[1])["code"] in ("unreadable_request", "head_too_large")
        assert connection.transport.is_closed
        connection.close()


async def test_tiny_chunks_give_others_their_turn() -> None:
    connection = MemoryConnection(echo)
    connection.feed(CHUNKED + b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n" + GET)
    assert connection.transport.is_paused  # the rest is parsed when the loop comes round again
    assert await connection.responses(2) == [(200, b"/a " + b"x" * 10_000), (200, b"/b ")]
    assert not connection.transport.is_paused
    connection.close()
