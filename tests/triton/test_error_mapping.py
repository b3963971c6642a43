# SPDX-License-Identifier: Apache-2.0
"""What Triton answers instead of a result reaches the caller as the right error, without internals."""

import json

import pytest

from fastapi_triton.core.errors import FastAPITritonError
from fastapi_triton.triton.error_mapping import failure, stream_failure


def told(status: int, text: str) -> FastAPITritonError:
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
    ],
)
def test_a_models_own_words_and_code_reach_the_caller(triton_status: int, code: str, status: int) -> None:
    error = told(triton_status, model_text(code, field="image"))
    assert (error.status, error.code, error.detail) == (status, code, "Why.")


def test_a_field_becomes_a_pointer() -> None:
    (problem,) = told(400, model_text("unsupported_size", field="width")).problems
    assert (problem.pointer, problem.code) == ("#/width", "unsupported_size")


def test_what_stands_before_a_models_words_is_dropped() -> None:
    error = told(400, "in ensemble 'e', " + model_text("out_of_range", field="seed"))
    assert error.code == "out_of_range"


def test_a_models_estimate_of_when_to_come_back_is_kept() -> None:
    assert told(503, model_text("queue_full", retry_after_s=12.5)).retry_after_s == 12.5


def test_tritons_own_words_about_a_bad_request_pass() -> None:
    error = told(400, "unexpected shape for input 'x' for model 'm'. Expected [-1,1], got [1,2].")
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
def test_texts_that_may_hold_internals_stay_in_the_log(
    triton_status: int, text: str, status: int, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    error = told(triton_status, text)
    assert (error.status, error.code) == (status, code)
    assert "secret" not in error.detail
    assert text in caplog.text


@pytest.mark.parametrize("body", [b"", b"<html>Bad gateway</html>", b"[]", b'{"error": 5}', b"\xff\xfe"])
def test_an_answer_that_is_no_error_of_tritons_is_a_failure_too(body: bytes) -> None:
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
def test_inside_a_stream_the_models_code_alone_decides(code: str, status: int, retry_after_s: float | None) -> None:
    error = stream_failure("m", model_text(code, field="image"))
    assert (error.status, error.code, error.detail, error.retry_after_s) == (status, code, "Why.", retry_after_s)
    assert error.problems[0].pointer == "#/image"


def test_inside_a_stream_the_models_estimate_is_kept() -> None:
    assert stream_failure("m", model_text("queue_full", retry_after_s=12.5)).retry_after_s == 12.5


def test_plain_words_inside_a_stream_stay_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    error = stream_failure("m", "Traceback {secret}")
    assert (error.status, error.code) == (502, "inference_failed")
    assert "secret" not in error.detail
    assert "secret" in caplog.text
