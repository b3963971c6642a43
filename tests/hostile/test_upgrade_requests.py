# SPDX-License-Identifier: Apache-2.0
"""Upgrades that the server does not support are ignored: the request is handled as HTTP/1.1, with its body."""

import asyncio
import json
import shutil
import subprocess

import pytest
from starlette.types import Receive, Scope, Send

from support.in_memory_connection import MemoryConnection
from support.scripted_app import LIMITS, ScriptedApp, echo, respond, running, whole

H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"
WEBSOCKET = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
LENGTH = b"Content-Length: 5\r\n\r\nhello"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\nX-Sum: 1\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n"


def post(upgrade: bytes, framed: bytes) -> bytes:
    return b"POST /v2/models/m/infer?a=b HTTP/1.1\r\nHost: x\r\n" + upgrade + framed


@pytest.mark.parametrize("framed", [LENGTH, CHUNKED])
@pytest.mark.parametrize("upgrade", [H2C, WEBSOCKET, b"Connection: upgrade\r\nUpgrade: TLS/1.2, h2c\r\n"])
async def test_post_with_upgrade_header_keeps_its_body_at_any_split(upgrade: bytes, framed: bytes) -> None:
    data = post(upgrade, framed) + NEXT
    for cut in range(len(data)):
        connection = MemoryConnection(echo)
        connection.feed(*filter(None, (data[:cut], data[cut:])))
        assert await connection.responses(2) == [(200, b"/v2/models/m/infer hello"), (200, b"/next ")], cut
        connection.close()


async def test_post_with_upgrade_header_may_arrive_byte_by_byte() -> None:
    connection = MemoryConnection(echo)
    data = post(H2C, CHUNKED) + post(H2C, LENGTH) + NEXT
    connection.feed(*(data[at : at + 1] for at in range(len(data))))
    assert [status for status, _ in await connection.responses(3)] == [200, 200, 200]
    connection.close()


class WebSocketLibrary:
    """Receives websocket upgrades from uvicorn, as an installed websocket library does."""

    def __init__(self, **_: object) -> None:
        self.received = b""

    def connection_made(self, _: asyncio.BaseTransport) -> None: ...

    def data_received(self, data: bytes) -> None:
        self.received += data


@pytest.mark.parametrize("before", [b"", b"GET /before HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\n\r\n"])
async def test_websocket_library_gets_the_websocket_upgrade(before: bytes) -> None:
    connection = MemoryConnection(echo)
    connection.protocol.ws_protocol_class = WebSocketLibrary  # type: ignore[assignment]
    upgraded: list[WebSocketLibrary] = []
    connection.transport.set_protocol = upgraded.append  # type: ignore[method-assign, assignment]
    if before:
        connection.feed(before)
        await connection.responses(1)
    connection.feed(b"GET /socket HTTP/1.1\r\nHost: x\r\n" + WEBSOCKET + b"\r\n")
    (library,) = upgraded
    head, *fields = library.received.split(b"\r\n")
    assert head == b"GET /socket HTTP/1.1"
    assert b"sec-websocket-version: 13" in fields
    assert b"secret" not in library.received


async def test_pipelined_upgrade_requests_get_responses_in_order() -> None:
    connection = MemoryConnection(echo)
    connection.feed((post(H2C, LENGTH) + post(H2C, CHUNKED) + b"GET / HTTP/1.1\r\n" + H2C + b"\r\n" + NEXT) * 400)
    responses = await connection.responses(1600)
    assert responses == [*[(200, b"/v2/models/m/infer hello")] * 2, (200, b"/ "), (200, b"/next ")] * 400
    connection.close()


async def test_app_receives_the_request_without_its_upgrade_headers() -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await respond(send, await whole(receive))

    connection = MemoryConnection(app)
    connection.feed(post(H2C + b"X-A: \xe9  b\r\nX-A: c\r\nX-Empty:\r\n", LENGTH))
    assert await connection.responses(1) == [(200, b"hello")]
    connection.close()
    (scope,) = seen
    assert (scope["method"], scope["path"], scope["query_string"]) == ("POST", "/v2/models/m/infer", b"a=b")
    assert scope["headers"] == [
        (b"host", b"x"),
        (b"connection", b"Upgrade, HTTP2-Settings"),
        (b"http2-settings", b"AAMAAABkAAQAoAAAAAIAAAAA"),
        (b"x-a", b"\xe9  b"),
        (b"x-a", b"c"),
        (b"x-empty", b""),
        (b"content-length", b"5"),
    ]


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_connection_close_is_honoured_with_an_upgrade(version: bytes) -> None:
    connection = MemoryConnection(echo)
    close = b"Connection: close, upgrade\r\nUpgrade: h2c\r\n"
    connection.feed(b"POST / HTTP/%b\r\nHost: x\r\n" % version + close + LENGTH + NEXT)
    assert await connection.responses(2) == [(200, b"/ hello")]
    assert connection.transport.is_closed
    connection.close()


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"Transfer-Encoding: chunked, identity\r\n\r\n",
    ],
)
async def test_ambiguous_framing_is_rejected_with_an_upgrade(framing: bytes) -> None:
    connection = MemoryConnection(echo)
    connection.feed(post(H2C, framing + b"5\r\nhello\r\n0\r\n\r\n" + NEXT))
    assert [status for status, _ in await connection.responses(2)] == [400]
    connection.close()


async def test_post_with_an_upgrade_gets_100_continue() -> None:
    connection = MemoryConnection(echo)
    connection.feed(post(H2C + b"Expect: 100-continue\r\n", LENGTH[:-5]))
    assert await connection.responses(1) == [(100, b"")]
    connection.feed(b"hello")
    assert (await connection.responses(2))[1] == (200, b"/v2/models/m/infer hello")
    connection.close()


@pytest.mark.parametrize("target", [b"example.com:443", b"/", b"*"])
async def test_connect_is_rejected(target: bytes) -> None:
    connection = MemoryConnection(echo)
    connection.feed(b"CONNECT " + target + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc" + NEXT)
    ((status, body),) = await connection.responses(2)
    assert (status, json.loads(body)["code"]) == (405, "method_not_allowed")
    assert connection.transport.is_closed
    connection.close()


async def test_http_2_preface_is_rejected_with_a_reason() -> None:
    connection = MemoryConnection(echo)
    connection.feed(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
    ((status, body),) = await connection.responses(1)
    assert status == 400
    assert "HTTP/2" in json.loads(body)["detail"]
    connection.close()


def _speaks_http_2() -> bool:
    curl = shutil.which("curl")
    return bool(curl) and "HTTP2" in subprocess.run([curl, "--version"], capture_output=True, text=True).stdout


@pytest.mark.skipif(not _speaks_http_2(), reason="needs a curl with HTTP/2")
async def test_curl_may_offer_http_2() -> None:
    async with running(ScriptedApp(LIMITS, echo)) as server:
        url = f"http://127.0.0.1:{server.port}/a"
        command = [
            "curl",
            "-sS",
            "--http2",
            "--max-time",
            "30",
            "-d",
            "hello",
            url,
            "--next",
            "--http2",
            "-d",
            "b",
            url,
        ]
        curl = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        assert (await curl.communicate())[0] == b"/a hello/a b"
