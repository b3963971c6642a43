# SPDX-License-Identifier: Apache-2.0
"""What callers write, and show to be let in, is in no line of any log: the frontend's, Triton's, the models'."""

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
    """All that can be logged is."""
    server = Server(
        [sys.executable, "-m", "fastapi_triton", "serve", "--embedded", "--access-log", "--log-level", "debug"],
        folder=COUNT_APP,
        environment={**os.environ, "FASTAPI_TRITON_V2_ADMIN": "true"},
    )
    try:
        yield server.wait_until_ready()
    finally:
        server.drop()


def ask(server: Server, path: str, **arguments: object) -> httpx2.Response:
    return server.post(path, headers={**HEADERS, **arguments.pop("headers", {})}, **arguments)  # type: ignore[dict-item]


def test_no_log_has_a_prompt_a_picture_or_a_key(server: Server) -> None:
    picture = base64_picture()
    events = {"Accept": "text/event-stream"}
    answers = [
        ask(server, "/count", json={"text": f"echo {SECRET} {picture}"}),
        ask(server, "/count", json={"text": f"echo {SECRET}"}, headers=events),
        ask(server, "/count", json={"text": f"late_fail {SECRET}"}),
        ask(server, "/count", json={"text": "refuse too_rude"}),
        ask(server, "/count", json={"text": f"break_off {SECRET}"}, headers=events),
        ask(server, "/count", json={"text": f"echo {SECRET}", "num_steps": SECRET}),
        ask(server, "/count", json={f"{SECRET}": 1}),
        ask(server, "/count", content=f'{{"text": "{SECRET}'),
        ask(server, "/count", files={"text": (None, SECRET), "image": ("x.png", SECRET.encode())}),
        ask(server, "/models/count_stream/infer", json={"text": f"echo {SECRET}"}),
        ask(server, "/v2/models/count_stream/generate_stream", json={"text": f"echo {SECRET}"}),
        ask(server, "/v2/models/count_stream/generate_stream", json={"text": [SECRET], "num_steps": SECRET}),
        ask(server, f"/count?api_key={SECRET}", json={"text": "echo hi"}),
    ]
    assert {answer.status_code for answer in answers} >= {200, 400, 422, 502}
    server.stop()
    access = [line for line in server.lines if "fastapi_triton.access" in line and " /count" in line]
    assert len(access) == 10
    told = [line for line in server.lines if SECRET in line or picture[:30] in line]
    assert told == []
