# SPDX-License-Identifier: Apache-2.0
"""Limits hold in every state of the parser and at every split of the bytes. Pipelined requests wait unparsed."""

import asyncio
import json
import tracemalloc

import pytest
from starlette.types import Receive, Scope, Send

from fastapi_triton.serving.refusals import MAX_HEAD_BYTES, MAX_HEADERS
from support.in_memory_connection import MemoryConnection
from support.scripted_app import echo, respond, whole

READ = 256 * 1024  # uvloop reads this much at once
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


async def echo_or_error(scope: Scope, receive: Receive, send: Send) -> None:
    """Turns errors while reading the body into responses, as our apps do."""
    try:
        await echo(scope, receive, send)
    except Exception as error:  # noqa: BLE001 (any error)
        await respond(send, b"", (b"connection", b"close"), status=error.status)  # type: ignore[attr-defined]


@pytest.mark.parametrize("size", [READ, 1000])
@pytest.mark.parametrize(("first", "piece", "status"), ENDLESS.values(), ids=ENDLESS)
async def test_endless_input_is_rejected(first: bytes, piece: bytes, status: int, size: int) -> None:
    block = piece * max(1, size // len(piece))
    connection = MemoryConnection(echo_or_error, is_ours=True)
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


async def test_one_header_field_over_the_limit_is_rejected() -> None:
    for num, status in ((MAX_HEADERS, 200), (MAX_HEADERS + 1, 431)):
        connection = MemoryConnection(echo)
        connection.feed(with_fields(num))
        assert [each[0] for each in await connection.responses(1)] == [status]
        connection.close()


@pytest.mark.parametrize("behind", [b"", LENGTH, POST + b"Content-Length: 100000\r\n\r\n" + b"x" * 100_000])
async def test_head_limit_holds_at_any_offset_and_split(behind: bytes) -> None:
    for size, status in ((MAX_HEAD_BYTES - 1000, 200), (MAX_HEAD_BYTES + 1000, 431)):
        data = behind + b"GET / HTTP/1.1\r\nx: " + b"y" * size + b"\r\n\r\n"
        for step in (len(data), len(data) - 100, 50_000, 1460):
            connection = MemoryConnection(echo)
            connection.feed(*(data[at : at + step] for at in range(0, len(data), step)))
            got = [each[0] for each in await connection.responses(2 if behind else 1)]
            assert got == [200] * bool(behind) + [status], (size, step)
            connection.close()


async def test_trailer_fields_do_not_become_header_fields() -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await respond(send, await whole(receive))

    connection = MemoryConnection(app)
    connection.feed(CHUNKED + b"3\r\nabc\r\n0\r\nHost: evil\r\nAuthorization: Bearer x\r\nExpect: 100-continue\r\n\r\n")
    assert await connection.responses(1) == [(200, b"abc")]
    connection.close()
    assert seen[0]["headers"] == [(b"host", b"x"), (b"transfer-encoding", b"chunked")]


async def test_pipelined_requests_are_parsed_one_after_another() -> None:
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


async def test_reading_stays_paused_while_an_app_waits_for_a_disconnect() -> None:
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
async def test_bad_pipelined_request_is_rejected_after_earlier_responses(bad: bytes) -> None:
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


async def test_parsing_of_tiny_chunks_yields_to_other_tasks() -> None:
    connection = MemoryConnection(echo)
    connection.feed(CHUNKED + b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n" + GET)
    assert connection.transport.is_paused  # the rest is parsed in a later turn of the event loop
    assert await connection.responses(2) == [(200, b"/a " + b"x" * 10_000), (200, b"/b ")]
    assert not connection.transport.is_paused
    connection.close()
