# SPDX-License-Identifier: Apache-2.0
"""Errors of Triton, of a model and of a proxy are distinguished: each has its own code."""

import ast
import gzip
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest

from fastapi_triton.core import problem_details
from fastapi_triton.core.errors import FastAPITritonError, OverloadedError
from fastapi_triton.triton import model_errors
from fastapi_triton.triton.client import Tensors
from fastapi_triton.triton.datatypes import BY_WIRE
from fastapi_triton.triton.error_mapping import failure, require_triton, stream_failure
from fastapi_triton.triton.http_client import HTTPTriton
from fastapi_triton.triton.tensor import Tensor
from support.paths import ROOT
from support.scripted_triton import ScriptedTriton, Upstream, scripted_triton

TEXT = {"x": Tensor(BY_WIRE["FP32"], np.array([1], np.float32))}
CONFIG = b'{"name":"echo","max_batch_size":0,"output":[{"name":"y","data_type":"TYPE_FP32","dims":[1]}]}'
HTML = b"<html><body>no</body></html>"


def error_of(status: int, text: str) -> FastAPITritonError:
    return failure("m", status, json.dumps({"error": text}).encode())


@pytest.mark.parametrize(
    ("text", "status", "code"),
    [
        ("Request for unknown model: 'm' version 1 is not at ready state", 503, "model_not_ready"),
        ("Request for model 'm' is not ready", 503, "model_not_ready"),
        ("Server not ready", 503, "triton_stopping"),
        (
            "Server is stopping, scheduler for model has stopped accepting new inference requests",
            503,
            "triton_stopping",
        ),
        ("Exceeds maximum queue size", 503, "overloaded"),
        ("Request timeout expired", 504, "deadline_exceeded"),
    ],
)
def test_error_says_why_triton_is_unavailable(text: str, status: int, code: str) -> None:
    error = error_of(503, text)
    assert (error.status, error.code) == (status, code)
    assert ("queue is full" in error.detail) == ("queue" in text)


def test_model_error_is_not_reported_as_a_full_queue() -> None:
    error = error_of(503, "the model's own reason")
    assert (error.status, error.code) == (503, "overloaded")
    assert "queue" not in error.detail


@pytest.mark.parametrize(
    ("status", "body", "expected", "code"),
    [
        (503, b"", 503, "triton_unavailable"),
        (503, HTML, 503, "triton_unavailable"),
        (503, b'{"message":"no healthy upstream"}', 503, "triton_unavailable"),
        (502, b"", 503, "triton_connection_lost"),
        (502, b'{"error":"bad gateway"}', 503, "triton_connection_lost"),
        (504, b"", 504, "deadline_exceeded"),
        (504, HTML, 504, "deadline_exceeded"),
        (504, b'{"message":"Endpoint request timed out"}', 504, "deadline_exceeded"),
        (408, HTML, 504, "deadline_exceeded"),
        (413, b"", 413, "too_large_for_triton"),
        (413, HTML, 413, "too_large_for_triton"),
        (413, b'{"error":"too large"}', 413, "too_large_for_triton"),
        (429, b"", 503, "triton_rate_limited"),
        (429, b'{"error":"slow down"}', 503, "triton_rate_limited"),
        (404, HTML, 503, "triton_unavailable"),
        (302, b"", 503, "triton_unavailable"),
        (308, HTML, 503, "triton_unavailable"),
        (401, b"", 503, "triton_access_denied"),
        (407, HTML, 503, "triton_access_denied"),
        (400, HTML, 502, "triton_proxy_failed"),
        (500, HTML, 502, "triton_proxy_failed"),
        (500, b'{"message":"Internal server error"}', 502, "triton_proxy_failed"),
        (520, HTML, 502, "triton_proxy_failed"),
    ],
)
def test_proxy_response_is_not_reported_as_a_model_error(status: int, body: bytes, expected: int, code: str) -> None:
    error = failure("m", status, body)
    assert (error.status, error.code) == (expected, code)
    assert "model" not in error.detail
    with pytest.raises(type(error)) as caught:  # nor in response to a poll
        require_triton(status, body)
    assert caught.value.code == code


@pytest.mark.parametrize(("status", "body"), [(400, b""), (404, b'{"error":"unknown model"}'), (400, b'{"error":""}')])
def test_tritons_response_to_a_poll_is_not_taken_for_a_proxys(status: int, body: bytes) -> None:
    require_triton(status, body)


def test_cancelled_request_has_its_own_code() -> None:
    assert (error_of(499, "cancelled").status, error_of(499, "cancelled").code) == (503, "cancelled")


def test_body_over_tritons_limit_is_too_large() -> None:
    error = error_of(400, "Request JSON size of 70000000 bytes exceeds ... use --http-max-input-size ...")
    assert (error.status, error.code) == (413, "too_large")


# ---- model errors that contain a client's text


OURS = json.dumps({"code": "queue_full", "detail": "x", "retry_after_s": 3})


@pytest.mark.parametrize(
    "text", [f"bad text: {OURS}", f"{OURS} said the client", f"x in ensemble 'e', {OURS}", f"[{OURS}]"]
)
def test_error_code_is_read_only_from_a_message_that_is_pure_json(text: str) -> None:
    for error in (error_of(500, text), stream_failure("m", text)):
        assert (error.status, error.code) == (502, "inference_failed")
    assert error_of(400, text).code == "refused_by_triton"


@pytest.mark.parametrize("text", [OURS, f" {OURS}\n", f"in ensemble 'a', in ensemble 'b', {OURS}"])
def test_error_code_is_read_from_a_models_json(text: str) -> None:
    assert (error_of(500, text).code, stream_failure("m", text).code) == ("queue_full", "queue_full")


@pytest.mark.parametrize(
    "code",
    [
        *("model_process_died", "triton_unavailable", "triton_connection_lost", "contract_mismatch", "unauthorized"),
        *("refused_by_triton", "internal_error", "my_code_17", "", "\n", "x" * 100_000),
    ],
)
def test_model_cannot_use_a_code_of_the_frontend(code: str) -> None:
    text = json.dumps({"code": code, "detail": "x", "field": "a/b"})
    for status, expected in ((400, "refused_by_model"), (500, "inference_failed"), (503, "overloaded")):
        error = error_of(status, text)
        assert (error.code, error.problems[0].code, error.problems[0].pointer) == (expected, expected, "#/a~1b")
    assert stream_failure("m", text).code == "refused_by_model"


def test_texts_of_a_models_error_are_truncated() -> None:
    text = json.dumps({"code": "out_of_range", "detail": "x" * 100_000, "field": "y" * 100_000})
    assert len(problem_details.body(error_of(400, text))) < 10_000
    assert len(problem_details.body(error_of(400, "z" * 100_000))) < 10_000


@pytest.mark.parametrize("estimate", ["Infinity", "-Infinity", "NaN", "1e999", "-5", "0", '"soon"', "1e300", "null"])
def test_odd_retry_after_of_a_model_does_not_break_the_response(estimate: str) -> None:
    text = f'{{"code":"queue_full","detail":"x","retry_after_s":{estimate}}}'
    for error in (error_of(503, text), stream_failure("m", text)):
        assert error.status in (502, 503)
        assert 1 <= int(problem_details.response(error).headers.get("retry-after", "1")) <= 3600


@pytest.mark.parametrize("retry_after_s", [float("inf"), float("nan"), -5.0])
def test_odd_estimate_does_not_break_an_error(retry_after_s: float) -> None:
    response = problem_details.response(OverloadedError("x", retry_after_s=retry_after_s))
    assert response.headers.get("retry-after") in (None, "0")


def codes_in(path: Path) -> Iterator[str]:
    """The error codes in a Python file: `SomeError("some_code", …)` or `code="some_code"`."""
    for call in ast.walk(ast.parse(path.read_text())):
        if isinstance(call, ast.Call):
            name = getattr(call.func, "id", getattr(call.func, "attr", ""))
            given = [*(call.args[:1] if name.endswith("Error") else ())]
            given += [each.value for each in call.keywords if each.arg == "code"]
            for each in given:
                if isinstance(each, ast.Constant) and re.fullmatch(r"[a-z]+(_[a-z]+)+", str(each.value)):
                    yield str(each.value)


def test_our_models_use_only_permitted_codes() -> None:
    found = {code for path in (ROOT / "models").rglob("*.py") for code in codes_in(path)}
    assert found >= {"queue_full", "unsupported_size", "out_of_range"}
    assert found <= model_errors.CODES


def test_codes_that_a_model_may_use_are_documented() -> None:
    page = (Path(ROOT) / "docs" / "reference" / "errors.md").read_text()
    assert [code for code in model_errors.CODES if f"`{code}`" not in page] == []


# ---- invalid responses


@pytest.fixture
async def triton() -> AsyncIterator[ScriptedTriton]:
    async with scripted_triton() as triton:
        yield triton


async def outcome(triton: ScriptedTriton, response: bytes, *, streams: bool, inputs: Tensors = TEXT) -> str:
    """The outcome of a request to which Triton, or a proxy, responds with these bytes."""

    async def serve(upstream: Upstream) -> None:
        while True:
            head, _ = await upstream.request()
            if b"/infer" in head or b"/generate_stream" in head:
                await upstream.send(response)
                return  # then closes
            await upstream.respond(CONFIG)

    triton.script = serve
    async with HTTPTriton(triton.url, heartbeat_s=3600) as client:
        try:
            if streams:
                num_responses = len([each async for each in client.stream("echo", inputs)])
                return f"{num_responses} responses"
            return str((await client.infer("echo", inputs))["y"].array.tolist())
        except FastAPITritonError as error:
            return f"{error.status} {error.code}"


def http(status: bytes, headers: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n" % (status, headers, len(body)) + body


EVENT = b'data: {"model_name":"echo","y":1}\n\n'
SSE = b"Content-Type: text/event-stream; charset=utf-8\r\n"
RESULT = b'{"model_name":"echo","outputs":[{"name":"y","datatype":"FP32","shape":[1],"data":[1.0]}]}'


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (http(b"200 OK", SSE, EVENT), "1 responses"),
        (http(b"200 OK", SSE, b": a comment\n\n" + EVENT + b"\r\n"), "1 responses"),
        (http(b"200 OK", SSE, b""), "0 responses"),  # a decoupled model may send no response
        (http(b"200 OK", SSE + b"Content-Encoding: identity\r\n", EVENT), "1 responses"),
        (http(b"200 OK", SSE + b"Content-Encoding: gzip\r\n", gzip.compress(EVENT, mtime=0)), "502 compressed_answer"),
        (http(b"200 OK", SSE + b"Content-Encoding: br\r\n", b"\x0b\x02"), "502 compressed_answer"),
        (http(b"400 Bad Request", SSE + b"Content-Encoding: gzip\r\n", b"\x1f\x8b"), "502 compressed_answer"),
        (http(b"200 OK", SSE, gzip.compress(EVENT, mtime=0)), "502 unreadable_answer"),
        (http(b"200 OK", b"Content-Type: text/html\r\n", HTML), "502 unreadable_answer"),
        (http(b"200 OK", b"", EVENT), "502 unreadable_answer"),
        (http(b"200 OK", SSE, HTML), "502 unreadable_answer"),
        (http(b"200 OK", SSE, EVENT[:-2]), "502 unreadable_answer"),
        (http(b"200 OK", SSE, EVENT + b'data: {"mod'), "502 unreadable_answer"),
        (http(b"200 OK", SSE, b"data: [1]\n\n"), "502 unreadable_answer"),
        (http(b"200 OK", SSE, b"data: 3\n\n"), "502 unreadable_answer"),
        (http(b"200 OK", SSE, b'data: {"status":"fine"}\n\n'), "502 unreadable_answer"),
        (http(b"400 Bad Request", SSE, b""), "502 inference_failed"),
        (http(b"502 Bad Gateway", SSE, b""), "503 triton_connection_lost"),
        (http(b"200 OK", SSE, EVENT)[:-5], "503 triton_connection_lost"),
        (b"HTTP/1.1 200 OK\r\n" + SSE + b"\r\n" + EVENT, "503 triton_connection_lost"),  # its end is unknown
        (b"HTTP/1.1 200 OK\r\n" + SSE + b"Transfer-Encoding: chunked\r\n\r\n", "503 triton_connection_lost"),
    ],
)
async def test_unreadable_stream_is_an_error(triton: ScriptedTriton, response: bytes, expected: str) -> None:
    assert await outcome(triton, response, streams=True) == expected


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (http(b"200 OK", b"", RESULT), "[1.0]"),
        (http(b"200 OK", b"Content-Encoding: gzip\r\n", gzip.compress(RESULT, mtime=0)), "502 compressed_answer"),
        (
            http(b"500 Oh", b"Content-Encoding: gzip\r\n", gzip.compress(b'{"error":"x"}', mtime=0)),
            "502 compressed_answer",
        ),
        (http(b"200 OK", b"", gzip.compress(RESULT, mtime=0)), "502 unreadable_answer"),
        (http(b"200 OK", b"Content-Type: text/html\r\n", HTML), "502 unreadable_answer"),
        (http(b"200 OK", b"", b""), "502 unreadable_answer"),
        (http(b"200 OK", b"", b"[]"), "502 unreadable_answer"),
        (http(b"204 No Content", b"", b""), "502 inference_failed"),
    ],
)
async def test_unreadable_response_is_an_error(triton: ScriptedTriton, response: bytes, expected: str) -> None:
    assert await outcome(triton, response, streams=False) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("unexpected shape for input 'x' for model 'echo'. Expected [-1], got []. NOTE: ...", "422 empty_list"),
        ("unexpected shape for input 'z' for model 'echo'. Expected [-1], got []", "422 refused_by_triton"),
        ("unexpected shape for input 'x' for model 'echo'. Expected [-1], got [0]", "422 refused_by_triton"),
    ],
)
async def test_error_names_an_empty_list_that_triton_rejects(triton: ScriptedTriton, text: str, expected: str) -> None:
    empty = {"x": Tensor(BY_WIRE["FP32"], np.array([], np.float32))}
    response = http(b"400 Bad Request", b"Content-Type: application/json\r\n", json.dumps({"error": text}).encode())
    assert await outcome(triton, response, streams=True, inputs=empty) == expected
