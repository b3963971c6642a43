# SPDX-License-Identifier: Apache-2.0
"""Waiting streams of `/v2`: comments until Triton's first byte, and nothing between Triton's own bytes."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.app.triton_proxy.silent_stream import SilentStream
from support.app_on_socket import listening
from support.received_events import ReceivedEvent, events_of
from support.scripted_triton import STREAM, ScriptedTriton, Upstream, scripted_triton
from support.waiting_streams import Client, busy

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENTS = b'data: {"n":1}\n\ndata: {"n":2}\n\n'


class Proxied:
    """An app in front of a scripted Triton, which streams two events as soon as `begin` is set."""

    def __init__(self, triton: ScriptedTriton) -> None:
        self.app = TritonFrontend(
            settings=Settings(triton_url=triton.url, max_in_flight=1, max_waiting=2, event_heartbeat_s=0.02)
        )
        self.begin = asyncio.Event()
        self.begin.set()
        self.error: tuple[bytes, bytes] | None = None
        triton.script = self.stream

    async def stream(self, upstream: Upstream) -> None:
        while True:
            await upstream.request()
            await self.begin.wait()
            if self.error is not None:
                status, body = self.error
                await upstream.respond(body, status=status)
                continue
            await upstream.send(HEAD + b"%x\r\n%b\r\n0\r\n\r\n" % (len(EVENTS), EVENTS))


@pytest.fixture
async def proxied() -> AsyncIterator[Proxied]:
    async with scripted_triton() as triton:
        yield Proxied(triton)


async def test_v2_stream_reports_its_position_in_comments(proxied: Proxied) -> None:
    async with (
        listening(proxied.app) as client,
        busy(proxied.app, "echo") as free,
        client.stream("POST", STREAM, json={}) as response,
    ):
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        pieces = response.aiter_bytes()
        waiting = await anext(pieces)
        assert waiting == b": queued position=1\n\n"
        free()
        rest = b"".join([piece async for piece in pieces])
    assert rest.replace(b": queued position=1\n\n", b"").replace(b": ping\n\n", b"") == EVENTS
    assert rest.endswith(EVENTS)


async def test_v2_error_after_the_head_is_an_event_in_tritons_form(proxied: Proxied) -> None:
    """Errors of Triton, of a proxy in front of it and of the frontend."""
    async with listening(proxied.app) as client:
        for error, data in (
            ((b"400 Bad Request", b'{"error":"no such input"}'), {"error": "no such input"}),
            ((b"404 Not Found", b"<html>\n\nno\n"), {"error": "<html>\n\nno\n"}),
        ):
            proxied.error = error
            proxied.begin.clear()
            async with client.stream("POST", STREAM, json={}) as response:
                assert response.status_code == 200
                events = events_of(response)
                assert await anext(events) == ReceivedEvent("", "ping")
                proxied.begin.set()
                assert [each.data async for each in events][-1] == data
        async with busy(proxied.app, "echo"):
            headers = {"X-Request-Timeout": "1"}
            async with client.stream("POST", STREAM, json={}, headers=headers) as response:
                last = [each.data async for each in events_of(response)][-1]
    assert last["code"] == "deadline_exceeded"
    assert proxied.app.services.admission.in_flight == 0


async def test_v2_response_before_the_first_heartbeat_is_unchanged(proxied: Proxied) -> None:
    proxied.error = (b"400 Bad Request", b'{"error":"no"}')
    app = TritonFrontend(settings=proxied.app.settings.model_copy(update={"event_heartbeat_s": 60}))
    async with listening(app) as client:
        rejected = await client.post(STREAM, json={})
        assert (rejected.status_code, rejected.content) == (400, b'{"error":"no"}')
        proxied.error = None
        response = await client.post(STREAM, json={})
        assert (response.headers["content-type"], response.content) == ("text/event-stream", EVENTS)


async def test_v2_heartbeats_stop_at_tritons_first_byte() -> None:
    """A model may fall silent in the middle of an event."""
    client, clock = Client(), Client()
    stream, ticking = SilentStream(client.send), SilentStream(clock.send)
    start = {"type": "http.response.start", "status": 200, "headers": []}
    async with stream.kept_alive(0.001), ticking.kept_alive(0.001):
        await stream.send(start)
        while len(clock.sent) < 10:
            clock.is_offered.clear()
            await clock.is_offered.wait()
        await stream.send({"type": "http.response.body", "body": b"data: ", "more_body": False})
    assert client.sent == [start, {"type": "http.response.body", "body": b"data: ", "more_body": False}]
    assert clock.types[0] == "start"
