# SPDX-License-Identifier: Apache-2.0
"""The access log has one line per request if a setting enables it, and prompts only if another one does."""

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

import main
from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.observability.logging_config import JSONFormatter, TextFormatter
from fastapi_triton.testing import FakeTriton
from support.app_on_socket import listening
from support.scribble_app import MODEL, PATH, base64_picture

Body = Callable[..., dict[str, Any]]
ACCESS = "fastapi_triton.access"


async def lines_of(
    caplog: pytest.LogCaptureFixture, triton: FakeTriton, settings: Settings, *bodies: dict[str, Any]
) -> list[logging.LogRecord]:
    caplog.set_level(logging.INFO)
    app = TritonFrontend(triton=triton, settings=settings)
    app.infer(PATH, model=MODEL, request=main.ScribbleRequest, response=main.ScribbleResponse)
    async with listening(app) as caller:
        for body in bodies:
            await caller.post(PATH, json=body, headers={"X-Request-ID": "mine"})
    return [record for record in caplog.records if record.name == ACCESS]


async def test_a_line_has_status_code_times_and_sizes_of_the_request(
    caplog: pytest.LogCaptureFixture, triton: FakeTriton, body: Body
) -> None:
    settings = Settings(access_log=True)
    good, bad = await lines_of(caplog, triton, settings, body(), body(conditioning_scale=9))
    entry = json.loads(JSONFormatter().format(good))
    assert entry.items() >= {"method": "POST", "route": PATH, "status": 200, "code": "ok", "model": MODEL}.items()
    assert entry["caller"].startswith("address:")
    assert entry["duration_ms"] >= entry["triton_ms"] > 0
    assert entry["received_bytes"] == len(json.dumps(body(), separators=(",", ":")).encode())
    assert entry["sent_bytes"] > 0
    line = TextFormatter().format(bad)
    assert f"POST {PATH} 422 out_of_range" in line
    assert "\n" not in line


async def test_the_access_log_is_off_by_default(
    caplog: pytest.LogCaptureFixture, triton: FakeTriton, body: Body
) -> None:
    assert await lines_of(caplog, triton, Settings(), body()) == []


async def test_prompts_are_logged_only_if_a_setting_enables_it_and_pictures_never(
    caplog: pytest.LogCaptureFixture, triton: FakeTriton, body: Body
) -> None:
    request = body(prompt="a secret house")
    (line,) = await lines_of(caplog, triton, Settings(access_log=True), request)
    assert "secret" not in TextFormatter().format(line) + JSONFormatter().format(line)
    caplog.clear()
    (line,) = await lines_of(caplog, triton, Settings(access_log=True, access_log_prompts=True), request)
    assert json.loads(JSONFormatter().format(line))["texts"]["prompt"] == "a secret house"
    assert base64_picture()[:40] not in TextFormatter().format(line)


async def test_a_path_cannot_start_another_line(caplog: pytest.LogCaptureFixture, triton: FakeTriton) -> None:
    caplog.set_level(logging.INFO)
    async with listening(TritonFrontend(triton=triton, settings=Settings(access_log=True))) as caller:
        await caller.get("/x%0Aforged")
    (line,) = (record for record in caplog.records if record.name == ACCESS)
    assert "/x%0Aforged 404" in TextFormatter().format(line)
