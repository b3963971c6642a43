# SPDX-License-Identifier: Apache-2.0
"""Broken HTTP over sockets: every connection gets a response or is closed in time, and the server goes on working."""

import asyncio
import logging
import os
import random
from collections import Counter
from collections.abc import Sequence

import orjson
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from fastapi_triton import Settings
from fastapi_triton.core.errors import FastAPITritonError
from fastapi_triton.testing import FakeTriton
from fastapi_triton.triton.model_config import ModelConfig
from support import mutations
from support.scribble_app import MODEL, PATH, base64_picture, paint
from support.scripted_app import LIMITS, Running, ScriptedApp, respond, running, whole
from support.scripted_stream_model import ScriptedStreamModel, app_of, stream_model_config

SEED = int(os.environ.get("FUZZ_SEED", "1"))
FEW, MANY = 400, int(os.environ.get("FUZZ_CONNECTIONS", "20000"))
AT_ONCE = 200  # most connections wait for timeouts
NO_CHANCE = random.Random(0)  # noqa: S311 (valid requests need no random split)
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


PICTURE = orjson.dumps({"prompt": "a house", "image": base64_picture(size=(8, 8)), "conditioning_scale": 1.0})
FORM = b'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\na house\r\n--b--\r\n'


def post(path: str, body: bytes, *headers: bytes) -> bytes:
    lines = [b"POST %s HTTP/1.1" % path.encode(), b"Host: x", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join((*lines, b"", body))


# Valid requests of the app: headers that its layers read, and bodies in every form.
OF_THE_APP = (
    post(PATH, PICTURE, b"Content-Type: application/json", b"X-Request-Timeout: 30.5", b"X-Request-ID: abc-1"),
    post(PATH, PICTURE, b"Accept: text/event-stream;q=0.5, */*", b"traceparent: 00-" + b"a" * 32 + b"-" + b"b" * 16),
    post(PATH, PICTURE, b"Accept: image/webp", b"Origin: http://x", b"Cookie: a=b", b"Content-Encoding: identity"),
    post(PATH, FORM, b"Content-Type: multipart/form-data; boundary=b"),
    post(f"/models/{MODEL}/infer?arrays=npy", PICTURE, b"Authorization: Basic YTpi", b"X-Forwarded-For: 10.0.0.1, ::1"),
    post("/v1/images/generations", b'{"prompt": "a", "size": "128x128"}', b"Authorization: Bearer x"),
    post("/sdapi/v1/txt2img", b'{"prompt": "a", "steps": 1}', b"Prefer: respond-async", b"Idempotency-Key: k"),
    b"GET /models/%C3%A4?a=%00&b HTTP/1.1\r\nHost: x\r\nIf-None-Match: *\r\nRange: bytes=0-1\r\n\r\n",
    b"GET /health/ready HTTP/1.1\r\nHost: x:80\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: y\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: application/openmetrics-text;version=1.0.0\r\n\r\n",
    b"OPTIONS %s HTTP/1.1\r\nHost: x\r\nAccess-Control-Request-Method: POST\r\nOrigin: http://x\r\n\r\n"
    % PATH.encode(),
)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    try:
        await respond(send, await whole(receive))
    except FastAPITritonError as error:
        await respond(send, b"", status=error.status)


async def exchange(port: int, sent: bytes, chance: random.Random) -> bytes:
    """Send these bytes in one piece or two, and return the response."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        at = chance.randrange(len(sent) + 1) if chance.random() < 0.3 else len(sent)
        writer.write(sent[:at])
        await asyncio.sleep(0)
        writer.write(sent[at:])
        async with asyncio.timeout(LIMIT_S):
            return await reader.read()  # until the server closes the connection
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def fuzz(
    app: ASGIApp, valid: Sequence[bytes], count: int, caplog: pytest.LogCaptureFixture
) -> tuple[Counter[bytes], Counter[bytes]]:
    """The number of connections by the status of the first response, and the same for valid requests afterwards."""
    caplog.set_level(logging.ERROR)
    chance = random.Random(SEED)  # noqa: S311
    statuses: Counter[bytes] = Counter()
    async with running(app) as server:
        for _ in range(0, count, AT_ONCE):
            requests = [
                b"".join(mutations.bytes_of(chance, chance.choice(valid)) for _ in range(chance.choice((1, 1, 2, 3))))
                for _ in range(AT_ONCE)
            ]
            responses = await asyncio.gather(*(exchange(server.port, each, chance) for each in requests))
            statuses.update(each[9:12] for each in responses if each)
        good = Counter(
            each[9:12] for each in await asyncio.gather(*(exchange(server.port, sent, NO_CHANCE) for sent in valid))
        )
        await until_all_connections_are_closed(server)
    assert [record.getMessage() for record in caplog.records] == []
    return statuses, good


async def until_all_connections_are_closed(server: Running) -> None:
    while server.num_connections:  # noqa: ASYNC110 (there is no event to await)
        await asyncio.sleep(0.01)
    assert not server.server.server_state.tasks


async def fuzz_protocol(count: int, caplog: pytest.LogCaptureFixture) -> None:
    times = {"head_timeout_s": 0.2, "body_pause_timeout_s": 0.2, "body_timeout_s": 0.5, "idle_timeout_s": 0.2}
    soon = LIMITS.model_copy(update={**times, "max_connections": 10 * AT_ONCE})
    statuses, good = await fuzz(ScriptedApp(soon, echo), VALID, count, caplog)
    assert set(statuses) <= {b"100", b"200", b"400", b"408", b"431"}, statuses
    assert statuses[b"200"] > count / 10
    assert statuses[b"400"] > count / 10
    assert good == {b"200": len(VALID) - 2, b"100": 1, b"400": 1}  # one expects `100 Continue`, and one is not HTTP/1.1


async def fuzz_app(config: ModelConfig, count: int, caplog: pytest.LogCaptureFixture) -> None:
    triton = FakeTriton()
    triton.add(config, paint)
    triton.add(stream_model_config(config), respond_stream=ScriptedStreamModel())
    app = app_of(
        triton,
        Settings(
            generate=True,
            max_in_flight=10 * AT_ONCE,
            max_body_bytes=100_000,
            head_timeout_s=0.2,
            body_pause_timeout_s=0.2,
            body_timeout_s=0.5,
            idle_timeout_s=0.2,
        ),
    )
    statuses, good = await fuzz(app, OF_THE_APP, count, caplog)
    # A changed digit may make a deadline too short.
    assert not [status for status in statuses if status >= b"500" and status != b"504"], statuses
    assert statuses[b"200"] > count / 10, statuses
    assert statuses[b"400"] > count / 10, statuses
    assert set(statuses) > {b"404", b"405", b"422"}, statuses
    assert good[b"200"] >= len(OF_THE_APP) - 3, good
    assert app.services.admission.in_flight == 0


async def test_some_broken_http_gets_a_response_or_is_closed(caplog: pytest.LogCaptureFixture) -> None:
    await fuzz_protocol(FEW, caplog)


async def test_some_broken_http_for_the_app_gets_a_response_or_is_closed(
    scribble_config: ModelConfig, caplog: pytest.LogCaptureFixture
) -> None:
    await fuzz_app(scribble_config, FEW, caplog)


@pytest.mark.fuzz
@pytest.mark.timeout(3600)
async def test_much_broken_http_gets_a_response_or_is_closed(caplog: pytest.LogCaptureFixture) -> None:
    await fuzz_protocol(MANY, caplog)


@pytest.mark.fuzz
@pytest.mark.timeout(3600)
async def test_much_broken_http_for_the_app_gets_a_response_or_is_closed(
    scribble_config: ModelConfig, caplog: pytest.LogCaptureFixture
) -> None:
    await fuzz_app(scribble_config, MANY, caplog)
