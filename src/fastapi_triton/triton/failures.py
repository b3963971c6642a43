# SPDX-License-Identifier: Apache-2.0
"""What Triton answered instead of a result, as the error that a caller should meet.

Models of ours put JSON into their `TritonError` (`code`, `detail`, `field`, `retry_after_s`), so no prose is read.
"""

import logging

import orjson
from pydantic import BaseModel, ValidationError

from fastapi_triton.errors import (
    DeadlineExceededError,
    FastAPITritonError,
    FieldProblem,
    InferenceError,
    InvalidRequestError,
    ModelNotReadyError,
    OverloadedError,
    TooLargeError,
)

logger = logging.getLogger(__name__)


class ModelFailure(BaseModel):
    """The JSON text of a model's `TritonError`."""

    code: str
    detail: str
    field: str | None = None
    retry_after_s: float | None = None


# Codes whose HTTP status Triton's own codes cannot say.
_BY_CODE: dict[str, type[FastAPITritonError]] = {
    "image_too_large": TooLargeError,
    "deadline_exceeded": DeadlineExceededError,
}


def failure(model: str, status: int, body: bytes) -> FastAPITritonError:
    """The error for a Triton answer that is not 200. What may hold internals goes to the log, not to the caller."""
    text = _error_text(body)
    told = _model_failure(text)
    if told is not None:
        return _from_model(model, status, told)
    if status == 400:
        # Triton's INVALID_ARG texts name the input and the shape that it expected; they are meant for the caller.
        return InvalidRequestError(f"Triton refused the request: {text}", code="refused_by_triton")
    logger.error("model %s: Triton answered %d: %s", model, status, text)
    if status == 404 or (status == 503 and "not ready" in text):
        return ModelNotReadyError(f"Triton has not loaded the model {model}. Try again.", retry_after_s=2.0)
    if status == 503:
        return OverloadedError("Triton's queue is full. Try again later.", retry_after_s=2.0)
    return _unknown_failure(model)


def _from_model(model: str, status: int, told: ModelFailure) -> FastAPITritonError:
    problems = [FieldProblem(f"#/{told.field}", told.code, told.detail)] if told.field else []
    if told.code in _BY_CODE:
        return _BY_CODE[told.code](told.detail, code=told.code, problems=problems)
    if status == 400:
        return InvalidRequestError(told.detail, code=told.code, problems=problems)
    logger.error("model %s: Triton answered %d: %s: %s", model, status, told.code, told.detail)
    if status == 503:
        return OverloadedError(told.detail, code=told.code, retry_after_s=told.retry_after_s or 2.0)
    return InferenceError(told.detail, code=told.code)


def _unknown_failure(model: str) -> InferenceError:
    return InferenceError(f"The model {model} failed on this request. The log has the reason under this request's id.")


def _error_text(body: bytes) -> str:
    """Triton answers `{"error": "..."}`; something between us and it may answer anything."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        answer = None
    if isinstance(answer, dict) and isinstance(answer.get("error"), str):
        return str(answer["error"])
    return body[:1000].decode("utf-8", "replace")


def _model_failure(text: str) -> ModelFailure | None:
    # An ensemble or a BLS call puts words of its own before a model's text.
    start = text.find("{")
    if start < 0:
        return None
    try:
        return ModelFailure.model_validate_json(text[start:])
    except ValidationError:
        return None
