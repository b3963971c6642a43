# SPDX-License-Identifier: Apache-2.0
"""Error responses of Triton become errors for the client, without internals."""

import json

import pytest

from fastapi_triton.core.errors import FastAPITritonError
from fastapi_triton.triton.error_mapping import failure, stream_failure


def error_of(status: int, text: str) -> FastAPITritonError:
    return failure("m", status, json.dumps({"error": text}).encode())


def model_text(code: str, field: str | None = None, retry_after_s: float | None = None) -> str:
    return json.dumps({"code": code, "detail": "Why.", "field": field, "retry_after_s": retry_after_s})


@pytest.mark.parametrize(
    ("triton_status", "code", "status"),
    [
        (400, "truncated_image", 422),
        (400, "image_too_large", 413),
        (503, "out_of_memory", 503),
        (503, "deadline_exceeded", 504),
        (500, "generation_failed", 502),
        (500, "out_of_range", 422),  # a `TritonError` without a status is an internal error to Triton
    ],
)
def test_code_and_detail_of_a_model_reach_the_client(triton_status: int, code: str, status: int) -> None:
    error = error_of(triton_status, model_text(code, field="image"))
    assert (error.status, error.code, error.detail) == (status, code, "Why.")


def test_a_field_becomes_a_pointer() -> None:
    (problem,) = error_of(400, model_text("unsupported_size", field="width")).problems
    assert (problem.pointer, problem.code) == ("#/width", "unsupported_size")


def test_text_before_the_error_of_a_model_is_dropped() -> None:
    error = error_of(400, "in ensemble 'e', " + model_text("out_of_range", field="seed"))
    assert error.code == "out_of_range"


def test_retry_after_of_a_model_is_kept() -> None:
    assert error_of(503, model_text("queue_full", retry_after_s=12.5)).retry_after_s == 12.5


def test_the_text_of_triton_about_an_invalid_request_reaches_the_client() -> None:
    error = error_of(400, "unexpected shape for input 'x' for model 'm'. Expected [-1,1], got [1,2].")
    assert error.status == 422
    assert "Expected [-1,1]" in error.detail


@pytest.mark.parametrize(
    ("triton_status", "text", "status", "code"),
    [
        (500, "Failed to process the request(s) for model 'm_0', message: ValueError: secret", 502, "inference_failed"),
        (404, "Request for unknown model: 'm' is not found", 503, "model_not_ready"),
        (503, "Request for model 'm' is not ready secret", 503, "model_not_ready"),
        (503, "Exceeds maximum queue size secret", 503, "overloaded"),
        (501, "secret", 502, "inference_failed"),
    ],
)
def test_texts_that_may_contain_internals_are_only_logged(
    triton_status: int, text: str, status: int, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    error = error_of(triton_status, text)
    assert (error.status, error.code) == (status, code)
    assert "secret" not in error.detail
    assert text in caplog.text


@pytest.mark.parametrize("body", [b"", b"<html>Bad gateway</html>", b"[]", b'{"error": 5}', b"\xff\xfe"])
def test_a_body_that_is_not_an_error_of_triton_is_a_failure_too(body: bytes) -> None:
    assert failure("m", 500, body).status == 502


@pytest.mark.parametrize(
    ("code", "status", "retry_after_s"),
    [
        ("deadline_exceeded", 504, None),
        ("cancelled", 503, 2.0),
        ("queue_full", 503, 2.0),
        ("out_of_memory", 503, 2.0),
        ("shutting_down", 503, 2.0),
        ("generation_failed", 502, None),
        ("image_too_large", 413, None),
        ("unsupported_size", 422, None),
        ("out_of_range", 422, None),
    ],
)
def test_in_a_stream_the_code_of_the_model_decides_the_error(
    code: str, status: int, retry_after_s: float | None
) -> None:
    error = stream_failure("m", model_text(code, field="image"))
    assert (error.status, error.code, error.detail, error.retry_after_s) == (status, code, "Why.", retry_after_s)
    assert error.problems[0].pointer == "#/image"


def test_in_a_stream_retry_after_of_the_model_is_kept() -> None:
    assert stream_failure("m", model_text("queue_full", retry_after_s=12.5)).retry_after_s == 12.5


def test_in_a_stream_plain_text_is_only_logged(caplog: pytest.LogCaptureFixture) -> None:
    error = stream_failure("m", "Traceback {secret}")
    assert (error.status, error.code) == (502, "inference_failed")
    assert "secret" not in error.detail
    assert "secret" in caplog.text
