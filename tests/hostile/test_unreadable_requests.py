# SPDX-License-Identifier: Apache-2.0
"""Requests that a model cannot read fail alone, while it makes other pictures.

They are sent to Triton directly, because a frontend may reject them earlier.
"""

import json
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from support.scribble_app import MODEL, base64_picture
from support.serving import Server

pytestmark = pytest.mark.integration

STREAM = f"{MODEL}_stream"
BODY = {
    "prompt": "a house",
    "image": base64_picture(),
    "conditioning_scale": 1.0,
    "num_inference_steps": 4,
    "width": 96,
    "height": 96,
}
# Values that are not UTF-8, and the error's code. Members that are not inputs become parameters; one model reads them.
NOT_UTF8 = [
    (STREAM, {"terse": "X"}, "invalid_text"),
    (STREAM, {"X": 1}, "invalid_text"),
    (MODEL, {"X": 1}, None),
    (STREAM, {"prompt": "X"}, "invalid_text"),
    (MODEL, {"prompt": "X"}, "invalid_text"),
    (MODEL, {"scheduler": "X"}, "invalid_text"),
    (MODEL, {"image": "X"}, "not_an_image"),
]


def post(server: Server, model: str, content: bytes) -> httpx2.Response:
    verb = "generate_stream" if model == STREAM else "generate"
    return httpx2.post(f"http://{server.triton_url}/v2/models/{model}/{verb}", content=content, timeout=120)


@pytest.mark.parametrize(("model", "fields", "code"), NOT_UTF8)
def test_request_that_is_not_utf_8_fails_alone(
    scribble_server: Server, model: str, fields: dict[str, Any], code: str | None
) -> None:
    triton = scribble_server.named("tritonserver")
    content = json.dumps(BODY | fields).encode().replace(b"X", b"\xff\xfe\xc3")
    with ThreadPoolExecutor(4) as threads:
        good: list[Future[httpx2.Response]] = [
            threads.submit(post, scribble_server, each, json.dumps(BODY).encode()) for each in (MODEL, STREAM)
        ]
        bad = [threads.submit(post, scribble_server, model, content) for _ in range(2)]
        assert all(b"generated_image" in each.result().content for each in good)
        assert all((code or "generated_image").encode() in each.result().content for each in bad)
    assert scribble_server.named("tritonserver") == triton
    assert "Signal (" not in scribble_server.log
