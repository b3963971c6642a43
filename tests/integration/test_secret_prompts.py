# SPDX-License-Identifier: Apache-2.0
"""No log of the frontend, Triton or the models contains prompts, pictures or keys."""

import os
import sys
from collections.abc import Iterator

import httpx2
import pytest

from support.scribble_app import base64_picture
from support.serving import COUNT_APP, Server

pytestmark = pytest.mark.integration

SECRET = "kN7secret"
HEADERS = {"Authorization": f"Bearer {SECRET}-key", "X-API-Key": f"{SECRET}-key", "Cookie": f"a={SECRET}-cookie"}


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that logs as much as possible."""
    server = Server(
        [sys.executable, "-m", "fastapi_triton", "serve", "--embedded", "--access-log", "--log-level", "debug"],
        folder=COUNT_APP,
        environment={**os.environ, "FASTAPI_TRITON_V2_ADMIN": "true"},
    )
    try:
        yield server.wait_until_ready()
    finally:
        server.drop()


def post(server: Server, path: str, **arguments: object) -> httpx2.Response:
    return server.post(path, headers={**HEADERS, **arguments.pop("headers", {})}, **arguments)  # type: ignore[dict-item]


def test_no_log_has_a_prompt_a_picture_or_a_key(server: Server) -> None:
    picture = base64_picture()
    events = {"Accept": "text/event-stream"}
    responses = [
        post(server, "/count", json={"text": f"echo {SECRET} {picture}"}),
        post(server, "/count", json={"text": f"echo {SECRET}"}, headers=events),
        post(server, "/count", json={"text": f"late_fail {SECRET}"}),
        post(server, "/count", json={"text": "refuse too_rude"}),
        post(server, "/count", json={"text": f"break_off {SECRET}"}, headers=events),
        post(server, "/count", json={"text": f"echo {SECRET}", "num_steps": SECRET}),
        post(server, "/count", json={f"{SECRET}": 1}),
        post(server, "/count", content=f'{{"text": "{SECRET}'),
        post(server, "/count", files={"text": (None, SECRET), "image": ("x.png", SECRET.encode())}),
        post(server, "/models/count_stream/infer", json={"text": f"echo {SECRET}"}),
        post(server, "/v2/models/count_stream/generate_stream", json={"text": f"echo {SECRET}"}),
        post(server, "/v2/models/count_stream/generate_stream", json={"text": [SECRET], "num_steps": SECRET}),
        post(server, f"/count?api_key={SECRET}", json={"text": "echo hi"}),
    ]
    assert {response.status_code for response in responses} >= {200, 400, 422, 502}
    server.stop()
    access = [line for line in server.lines if "fastapi_triton.access" in line and " /count" in line]
    assert len(access) == 10
    revealing = [line for line in server.lines if SECRET in line or picture[:30] in line]
    assert revealing == []
