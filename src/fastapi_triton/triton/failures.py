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
from fastapi_triton.triton import connection_errors, model_processes

logger = logging.getLogger(__name__)


class ModelFailure(BaseModel):
    """The JSON text of a model's `TritonError`."""

    code: str
    detail: str
    field: str | None = None
    retry_after_s: float | None = None


# What a model's own code means, whatever Triton's status, which cannot say all of it and is absent inside a stream.
_BY_CODE: dict[str, type[FastAPITritonError]] = {
    "cancelled": OverloadedError,
    "deadline_exceeded": DeadlineExceededError,
    "generation_failed": InferenceError,
    "image_too_large": TooLargeError,
    "out_of_memory": OverloadedError,
    "queue_full": OverloadedError,
    "shutting_down": OverloadedError,
}
# The code of what Triton itself refuses, by the model's config.
REFUSED_BY_TRITON = "refused_by_triton"
# What nginx, Apache and Go's servers say to plain HTTP on their TLS port.
_WRONG_SCHEME = (b"sent to HTTPS port", b"HTTP to an SSL-enabled", b"HTTP request to an HTTPS server")
# When to come back to an overloaded model that does not say.
_RETRY_AFTER_S = 2.0


def failure(model: str, status: int, body: bytes) -> FastAPITritonError:
    """The error for a Triton answer that is not 200. What may hold internals goes to the log, not to the caller."""
    text = _error_text(body)
    before = _before_triton(status, body)
    if before is not None:
        logger.error("model %s: what stands before Triton answered %d: %s", model, status, text)
        return before
    told = _model_failure(text)
    if told is not None:
        return _from_model(model, status, told)
    if status == 400:
        # Triton's INVALID_ARG texts name the input and the shape that it expected; they are meant for the caller.
        return InvalidRequestError(f"Triton refused the request: {text}", code=REFUSED_BY_TRITON)
    if model_processes.is_death(text):
        return model_processes.death(model)
    logger.error("model %s: Triton answered %d: %s", model, status, text)
    if status == 404 or (status == 503 and "not ready" in text):
        return ModelNotReadyError(f"Triton has not loaded the model {model}. Try again.", retry_after_s=_RETRY_AFTER_S)
    if status == 503 and "timeout expired" in text:
        return DeadlineExceededError("The request's time was over before it was its turn in Triton's queue.")
    if status == 503:
        return OverloadedError("Triton's queue is full. Try again later.", retry_after_s=_RETRY_AFTER_S)
    return _unknown_failure(model)


def require_triton(status: int, body: bytes) -> None:
    """Pass over what Triton itself answers.

    Raises:
        TritonUnavailableError, DeadlineExceededError: it was whoever lets requests in: a proxy, or its restricted APIs.
    """
    error = _before_triton(status, body)
    if error is not None:
        raise error


def _before_triton(status: int, body: bytes) -> FastAPITritonError | None:
    if status in (401, 403, 407):
        return connection_errors.access_denied(status)
    if not body or body.startswith(b"{"):
        return None
    if status == 400 and any(each in body for each in _WRONG_SCHEME):
        return connection_errors.wrong_scheme()
    if status in (502, 503):
        return connection_errors.nothing_behind_proxy(status)
    if status == 504:
        return DeadlineExceededError("The proxy before Triton had no answer of it in time; the request may be running.")
    return None


def stream_failure(model: str, text: str) -> FastAPITritonError:
    """The error for one that comes inside a stream, where Triton gives no status: only the model's words tell."""
    told = _model_failure(text)
    if told is not None:
        return _from_model(model, 400, told)
    if model_processes.is_death(text):
        return model_processes.death(model)
    logger.error("model %s: its stream failed: %s", model, text)
    return _unknown_failure(model)


def _from_model(model: str, status: int, told: ModelFailure) -> FastAPITritonError:
    kind = _BY_CODE.get(told.code) or _by_status(status)
    if kind.status >= 500:
        logger.error("model %s: Triton answered %d: %s: %s", model, status, told.code, told.detail)
    return kind(
        told.detail,
        code=told.code,
        problems=[FieldProblem(f"#/{told.field}", told.code, told.detail)] if told.field else [],
        retry_after_s=told.retry_after_s or (_RETRY_AFTER_S if kind is OverloadedError else None),
    )


def _by_status(status: int) -> type[FastAPITritonError]:
    if status == 400:
        return InvalidRequestError
    return OverloadedError if status == 503 else InferenceError


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
