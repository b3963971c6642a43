# SPDX-License-Identifier: Apache-2.0
"""Clients that disconnect in the middle of the body: a 499 in the access log, not an internal error."""

import asyncio
import logging
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.requests import Request

from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.observability import access_log
from fastapi_triton.testing import FakeTriton
from fastapi_triton.triton.model_config import ModelConfig
from support.app_on_socket import listening
from support.scribble_app import PATH
from support.scripted_stream_model import ScriptedStreamModel, app_of, stream_model_config
from support.scripted_triton import scripted_triton

JSON, FORM = "application/json", "multipart/form-data; boundary=B"
LATER = "Prefer: respond-async\r\n"


class Seen(logging.Handler):
    """Collects the lines of the access log."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.put_nowait(record.fields)  # type: ignore[attr-defined]

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(30):
            return await self.lines.get()


@pytest.fixture
async def seen() -> AsyncIterator[Seen]:
    handler = Seen()
    access_log.logger.addHandler(handler)
    yield handler
    access_log.logger.removeHandler(handler)


@asynccontextmanager
async def served(
    scribble_config: ModelConfig, stream_model: ScriptedStreamModel, tmp_path: Path
) -> AsyncIterator[httpx2.AsyncClient]:
    fake = FakeTriton()
    fake.add(scribble_config)
    fake.add(stream_model_config(scribble_config), respond_stream=stream_model)
    app = app_of(fake, Settings(access_log=True, generate=True, jobs_folder=str(tmp_path), watch_interval_s=3600))

    @app.post("/own")
    async def own(request: Request) -> dict[str, Any]:
        return {"read": await request.json()}

    async with listening(app) as client:
        await app.registry.poll()
        yield client


def send_half(client: httpx2.AsyncClient, head: str, *, abruptly: bool) -> None:
    """Send a head and the first bytes of its body, and disconnect."""
    with socket.create_connection((client.base_url.host, client.base_url.port or 0)) as connection:
        if abruptly:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sendall(head.encode() + b"--B\r\nhalf")


def head_of(path: str, media_type: str, extra: str = "") -> str:
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {media_type}\r\n{extra}Content-Length: 1000\r\n\r\n"


@pytest.mark.parametrize("abruptly", [False, True])
@pytest.mark.parametrize(
    ("path", "media_type", "extra"),
    [
        (PATH, JSON, ""),
        (PATH, FORM, ""),
        (PATH, FORM, LATER),
        ("/v1/images/generations", JSON, ""),
        ("/v1/images/edits", FORM, ""),
        ("/sdapi/v1/txt2img", JSON, ""),
        ("/sdapi/v1/options", JSON, ""),
        ("/models/sdxl_scribble_controlnet/infer", JSON, ""),
        ("/models/sdxl_scribble_controlnet/infer", JSON, LATER),
        ("/models/sdxl_scribble_controlnet_stream/infer", JSON, ""),
        ("/own", JSON, ""),
    ],
)
async def test_disconnect_during_the_body_is_a_499_without_a_traceback(
    scribble_config: ModelConfig,
    stream_model: ScriptedStreamModel,
    tmp_path: Path,
    seen: Seen,
    caplog: pytest.LogCaptureFixture,
    path: str,
    media_type: str,
    extra: str,
    *,
    abruptly: bool,
) -> None:
    async with served(scribble_config, stream_model, tmp_path) as client:
        send_half(client, head_of(path, media_type, extra), abruptly=abruptly)
        line = await seen.next()
        assert (line["path"], line["status"], line["code"]) == (path, 499, "caller_left")
        metrics = (await client.get("/metrics")).text
    assert 'code="caller_left"' in metrics
    assert 'code="internal_error"' not in metrics
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR or record.exc_info]


async def test_disconnect_during_a_v2_body_is_a_499_without_a_traceback(
    seen: Seen, caplog: pytest.LogCaptureFixture
) -> None:
    async with scripted_triton() as triton:
        app = TritonFrontend(settings=Settings(triton_url=triton.url, access_log=True))
        async with listening(app) as client:
            send_half(client, head_of("/v2/models/echo/infer", JSON), abruptly=False)
            assert (await seen.next())["code"] == "caller_left"
            assert app.services.admission.in_flight == 0
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR or record.exc_info]
