# SPDX-License-Identifier: Apache-2.0
"""What the protocol has in common with uvicorn's: requests in pieces, pipelining, framing of responses, disconnects."""

import asyncio

import pytest
from starlette.types import Receive, Scope, Send

from support.raw_connection import RawConnection
from support.scripted_app import Running, ScriptedApp, respond, whole

POST = b"POST /a%20b?c=d HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"


async def sending_too_much(server: Running, wire: RawConnection, num_bytes: int) -> asyncio.Task[None]:
    """Send a body until the server pauses reading, since its app reads nothing of it."""
    request = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % num_bytes + b"x" * num_bytes
    saying = asyncio.create_task(wire.send(request))
    connections = server.server.server_state.connections
    while not any(each.flow.read_paused for each in connections):  # noqa: ASYNC110 (there is no event for it)
        await asyncio.sleep(0.001)
    return saying


async def test_requests_in_pieces_and_pipelined_requests_are_answered_in_order(
    server: Running, wire: RawConnection
) -> None:
    for piece in (POST[:10], POST[10:50], POST[50:-2], POST[-2:]):
        await wire.send(piece)
        await asyncio.sleep(0.01)  # so that each piece arrives alone
    assert await wire.response() == (200, b"/a b abc")
    await wire.send(POST + b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n" + POST)
    assert [await wire.response() for _ in range(3)] == [(200, b"/a b abc"), (200, b"/x "), (200, b"/a b abc")]
    assert server.num_connections == 1


async def test_a_large_body_arrives_completely(wire: RawConnection) -> None:
    body = bytes(range(256)) * 8_000  # 2 MB
    await wire.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert await wire.response() == (200, b"/ " + body)


async def test_a_body_that_the_app_does_not_read_is_not_kept_in_memory(
    app: ScriptedApp, wire: RawConnection, server: Running
) -> None:
    go_on, num_taken = asyncio.Event(), 0

    async def talk(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal num_taken
        await go_on.wait()
        num_taken = len((await receive())["body"])
        await respond(send, b"%d" % (num_taken + len(await whole(receive))))

    app.talk = talk
    saying = await sending_too_much(server, wire, 30_000_000)
    go_on.set()
    await saying
    assert await wire.response() == (200, b"30000000")
    assert num_taken < 1_000_000


async def test_an_unread_body_is_dropped_after_the_response_and_the_next_request_works(
    app: ScriptedApp, wire: RawConnection, server: Running
) -> None:
    go_on = asyncio.Event()

    async def talk(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "POST":
            await go_on.wait()
        await respond(send, scope["method"].encode())

    app.talk = talk
    saying = await sending_too_much(server, wire, 10_000_000)
    go_on.set()
    assert await wire.response() == (200, b"POST")
    await saying
    await wire.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert await wire.response() == (200, b"GET")
    assert server.num_connections == 1


async def test_expect_100_continue_is_answered(wire: RawConnection) -> None:
    await wire.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
    assert await wire.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    await wire.send(b"abc")
    assert await wire.response() == (200, b"/ abc")


async def test_a_response_without_a_length_is_chunked_and_sent_at_once(app: ScriptedApp, wire: RawConnection) -> None:
    go_on = asyncio.Event()

    async def talk(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        await go_on.wait()
        await send({"type": "http.response.body", "body": b"last", "more_body": False})

    app.talk = talk
    await wire.send(POST)
    assert b"transfer-encoding: chunked" in await wire.reader.readuntil(b"\r\n\r\n")
    assert await wire.reader.readexactly(10) == b"5\r\nfirst\r\n"
    go_on.set()
    assert await wire.reader.readexactly(14) == b"4\r\nlast\r\n0\r\n\r\n"


async def test_head_responses_have_no_body_and_http_1_0_connections_close(
    app: ScriptedApp, wire: RawConnection
) -> None:
    await wire.send(b"HEAD /x HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"content-length: 3" in await wire.reader.readuntil(b"\r\n\r\n")
    await wire.send(b"GET /x HTTP/1.0\r\n\r\n")
    response = await wire.rest()
    assert response.endswith(b"\r\n\r\n/x ")
    assert b"connection: close" in response


async def test_headers_may_be_any_iterable(app: ScriptedApp, wire: RawConnection) -> None:
    async def talk(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-length", b"1"), (b"x-mine", b"yes")]
        await send({"type": "http.response.start", "status": 200, "headers": iter(headers)})
        await send({"type": "http.response.body", "body": b"x"})

    app.talk = talk
    await wire.send(POST)
    assert b"x-mine: yes\r\n" in await wire.reader.readuntil(b"\r\n\r\n")


@pytest.mark.parametrize("header", [(b"x", b"a\r\nset-cookie: b"), (b"x", b"a\0"), (b"x y", b"a"), (b"", b"a")])
async def test_an_invalid_response_header_is_never_sent(
    app: ScriptedApp, wire: RawConnection, header: tuple[bytes, bytes]
) -> None:
    async def talk(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, b"x", header)

    app.talk = talk
    await wire.send(POST)
    assert b"set-cookie" not in await wire.rest()


@pytest.mark.parametrize("length", [b"2", b"4"])
async def test_a_response_of_the_wrong_length_closes_the_connection(
    app: ScriptedApp, wire: RawConnection, length: bytes
) -> None:
    async def talk(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        await send({"type": "http.response.body", "body": b"abc", "more_body": False})

    app.talk = talk
    await wire.send(POST)
    assert not (await wire.rest()).endswith(b"\r\n\r\nabcd")  # and the connection is closed


async def test_the_app_notices_a_disconnect_in_every_state(app: ScriptedApp, server: Running) -> None:
    for data in (POST, POST[:-1]):
        met = asyncio.get_running_loop().create_future()

        async def talk(scope: Scope, receive: Receive, send: Send, met: asyncio.Future[str] = met) -> None:
            while (message := await receive())["type"] == "http.request":
                pass
            met.set_result(message["type"])

        app.talk = talk
        wire = await server.wire()
        await wire.send(data)
        wire.close()
        assert await met == "http.disconnect"
    while server.num_connections:  # noqa: ASYNC110 (there is no event for it)
        await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03",
        b"GET / HTTP/1.1\r\nHost x\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
async def test_bytes_that_are_not_http_get_an_error_in_our_format(wire: RawConnection, data: bytes) -> None:
    await wire.send(data)
    response = await wire.rest()
    assert response.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in response
    assert b'"code":"unreadable_request"' in response


async def test_the_app_reports_a_malformed_body(app: ScriptedApp, wire: RawConnection) -> None:
    await wire.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nnonsense\r\n")
    assert (await wire.rest()).startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 500 "))  # this app does not handle errors


async def test_a_head_without_an_end_is_rejected(wire: RawConnection) -> None:
    await wire.send(b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 60_000)
    response = await wire.rest()
    assert response.startswith(b"HTTP/1.1 431 ")
    assert b'"code":"head_too_large"' in response


async def test_a_response_before_the_end_of_the_body_reaches_a_client_that_still_sends(
    app: ScriptedApp, wire: RawConnection
) -> None:
    async def talk(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, b"no", (b"connection", b"close"), status=413)

    app.talk = talk
    await wire.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n")
    for _ in range(29):
        await wire.send(b"x" * 100_000)
    assert (await wire.rest()).endswith(b"\r\n\r\nno")
