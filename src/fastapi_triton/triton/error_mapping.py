# SPDX-License-Identifier: Apache-2.0
"""Responses that are not results, from Triton or a proxy in front of it, as errors for clients."""

import logging
import re
from collections.abc import Mapping

import orjson

from fastapi_triton.core.errors import (
    DeadlineExceededError,
    FastAPITritonError,
    InferenceError,
    InvalidRequestError,
    ModelNotReadyError,
    OverloadedError,
    TooLargeError,
    TritonUnavailableError,
)
from fastapi_triton.triton import model_health
from fastapi_triton.triton.model_errors import RETRY_AFTER_S, ModelFailure
from fastapi_triton.triton.transport.errors import LOST, access_denied, wrong_scheme

logger = logging.getLogger(__name__)

# The code if Triton itself rejects a request because of the model's config.
REFUSED_BY_TRITON = "refused_by_triton"
STOPPING = "triton_stopping"
# Triton's complete messages while it stops or starts.
STOPPING_TEXTS = (
    "Server is stopping, scheduler for model has stopped accepting new inference requests",
    "Server not ready",
)
# Longer messages of Triton are cut in errors and in the log: they may repeat a client's text.
_MAX_TEXT = 1000
RATE_LIMITED = "triton_rate_limited"
TOO_LARGE = "too_large_for_triton"
FAILED = "triton_proxy_failed"
COMPRESSED = "compressed_answer"
UNREADABLE = "unreadable_answer"

# The responses of nginx, Apache and Go servers to plain HTTP on a TLS port.
_WRONG_SCHEME = (b"sent to HTTPS port", b"HTTP to an SSL-enabled", b"HTTP request to an HTTPS server")
# Statuses that Triton itself never sends.
_NEVER_TRITONS = frozenset((301, 302, 303, 307, 308, 408, 413, 429, 502, 504))
# Statuses of a proxy that has no upstream or does not have this path: nothing was run.
_NOBODY: Mapping[int, str] = {
    **{
        status: f"The URL of Triton redirects elsewhere ({status}). Nothing was run. Correct TRITON_URL."
        for status in (301, 302, 303, 307, 308)
    },
    404: "The proxy in front of Triton has no Triton at this URL (404). Nothing was run. Correct TRITON_URL.",
    503: "The proxy in front of Triton has no Triton available (503). Nothing was run. Try again.",
}

# Triton's messages, without a status, that are about the request or the model's state.
_REQUEST_ID = re.compile(r"^\[request id: [^\]]*\] ")
_UNKNOWN = re.compile(r"Request for unknown model: '")
_QUEUE_FULL = "Exceeds maximum queue size"
_INVALID = re.compile(r"(unexpected|expected|inference|input) ")


class SuspectedDeathError(InferenceError):
    """Triton's message for a dead stub process. A model may return the same text, so `HTTPTriton` checks it."""


def failure(model: str, status: int, body: bytes) -> FastAPITritonError:
    """The error for a response of Triton whose status is not 200. Texts that may reveal internals are only logged."""
    message = _tritons_text(body)
    text = (body[:_MAX_TEXT].decode("utf-8", "replace") if message is None else message)[:_MAX_TEXT]
    before = _proxy_error(status, body, is_tritons=message is not None)
    if before is not None:
        logger.error("model %s: the proxy in front of Triton returned %d: %s", model, status, text)
        return before
    structured = ModelFailure.of(message or "")
    if structured is not None:
        return _from_model(model, status, structured)
    if model_health.is_death(text, model):
        return _suspected(model, text)
    if status == 400 and message is not None:
        return _refused(text)
    logger.error("model %s: Triton returned %d: %s", model, status, text)
    if status == 404 and message is not None:
        return _not_loaded(model)
    if status == 499:
        return OverloadedError("The request was cancelled at Triton.", code="cancelled", retry_after_s=RETRY_AFTER_S)
    if status == 503:
        return _unavailable(model, text)
    return _unknown_failure(model)


def require_triton(status: int, body: bytes) -> None:
    """Raise if the response is not Triton's own.

    Raises:
        FastAPITritonError: it is from a proxy in front of Triton, or Triton's restricted APIs.
    """
    error = _proxy_error(status, body, is_tritons=_tritons_text(body) is not None)
    if error is not None:
        raise error


def suspects_death(model: str, body: bytes) -> bool:
    """Whether a response, or its first event, has Triton's message for a dead stub process."""
    message = _tritons_text(body.removeprefix(b"data:"))
    return message is not None and model_health.is_death(message, model)


def stream_failure(model: str, text: str) -> FastAPITritonError:
    """The error for an error event inside a stream. It has no status, so the message alone decides."""
    structured = ModelFailure.of(text)
    if structured is not None:
        return _from_model(model, 400, structured)
    if model_health.is_death(text, model):
        return _suspected(model, text)
    logger.error("model %s: its stream failed: %s", model, text[:_MAX_TEXT])
    return _unknown_failure(model)


def rejection(model: str, text: str) -> FastAPITritonError:
    """The error for a message in a gRPC stream. It has no status, and is either Triton's or the model's."""
    message = _REQUEST_ID.sub("", text)
    if _UNKNOWN.match(message) or "not at ready state" in message:
        return _not_loaded(model)
    if message in STOPPING_TEXTS or message.startswith(_QUEUE_FULL):
        return _unavailable(model, message)
    if _INVALID.match(message) and f"model '{model}'" in message:
        return _refused(message)
    return stream_failure(model, message)


def _from_model(model: str, status: int, failure: ModelFailure) -> FastAPITritonError:
    error = failure.error(status)
    if error.status >= 500:
        code, detail = failure.code[:_MAX_TEXT], failure.detail[:_MAX_TEXT]
        logger.error("model %s: Triton returned %d: %s: %s", model, status, code, detail)
    return error


def _suspected(model: str, text: str) -> FastAPITritonError:
    logger.error("model %s: Triton returned: %s", model, text)
    return SuspectedDeathError(_unknown_failure(model).detail)


def _refused(text: str) -> FastAPITritonError:
    """Triton's INVALID_ARG messages are meant for clients: they name the input and the expected shape."""
    if "max-input-size" in text:
        return TooLargeError(f"Triton rejects a request of this size: {text}")
    return InvalidRequestError(f"Triton rejected the request: {text}", code=REFUSED_BY_TRITON)


def _unavailable(model: str, text: str) -> FastAPITritonError:
    """The error if Triton or the model accepts no requests now."""
    if text in STOPPING_TEXTS:
        return TritonUnavailableError(
            "Triton is stopping, or has not started yet. Try again.", code=STOPPING, retry_after_s=RETRY_AFTER_S
        )
    if "not ready" in text or "not at ready state" in text:
        return _not_loaded(model)
    if "timeout expired" in text.lower():
        return DeadlineExceededError("The request's deadline passed in Triton's queue.")
    if "maximum queue size" in text:
        return OverloadedError("Triton's queue is full. Try again later.", retry_after_s=RETRY_AFTER_S)
    return OverloadedError(
        f"The model {model} accepts no requests now. The log has its reason under this request's id. Try again later.",
        retry_after_s=RETRY_AFTER_S,
    )


def _not_loaded(model: str) -> ModelNotReadyError:
    return ModelNotReadyError(f"Triton has not loaded the model {model}. Try again.", retry_after_s=RETRY_AFTER_S)


def _unknown_failure(model: str) -> InferenceError:
    return InferenceError(f"The model {model} failed on this request. The log has the reason under this request's id.")


def _tritons_text(body: bytes) -> str | None:
    """The message of an error in Triton's form, `{"error": "..."}`; None: something else wrote this body."""
    try:
        response = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    message = response.get("error") if isinstance(response, dict) else None
    return message if isinstance(message, str) else None


# ---- proxies and load balancers in front of Triton


def _proxy_error(status: int, body: bytes, *, is_tritons: bool) -> FastAPITritonError | None:
    """The error if a proxy in front of Triton sent the response; None if Triton did.

    `is_tritons`: the body has the form of Triton's errors. An empty body may be Triton's too, because some of its
    responses have only a status.
    """
    if status < 300:
        return None
    if status in (401, 403, 407):
        return access_denied(status)
    if status not in _NEVER_TRITONS and (is_tritons or (not body and status != 503)):
        return None
    if status == 400 and any(each in body for each in _WRONG_SCHEME):
        return wrong_scheme()
    if status in _NOBODY:
        return TritonUnavailableError(_NOBODY[status], retry_after_s=RETRY_AFTER_S)
    return _refused_by_proxy(status)


def _refused_by_proxy(status: int) -> FastAPITritonError:
    """The error for a status with which a proxy rejects a request, or reports that it failed."""
    if status == 413:
        return TooLargeError(
            "The proxy in front of Triton rejects requests of this size (413). Nothing was run. Send less, or ask the "
            "operator to raise the limit.",
            code=TOO_LARGE,
        )
    if status == 429:
        return OverloadedError(
            "The proxy in front of Triton limits the frontend's rate (429). Nothing was run. Try again later.",
            code=RATE_LIMITED,
            retry_after_s=RETRY_AFTER_S,
        )
    if status in (408, 504):
        return DeadlineExceededError(
            f"The proxy in front of Triton got no response in time ({status}). The request may be running."
        )
    if status == 502:
        return TritonUnavailableError(
            "The proxy in front of Triton could not reach it, or lost the connection (502). The request may have run.",
            code=LOST,
            retry_after_s=RETRY_AFTER_S,
        )
    return InferenceError(
        f"A proxy in front of Triton returned {status}. The log has its response under this request's id.",
        code=FAILED,
    )


def require_plain(headers: Mapping[bytes, bytes]) -> None:
    """Check that a response is not compressed. The frontend does not accept compression, so only a proxy does this.

    Raises:
        InferenceError: the response is compressed.
    """
    encoding = headers.get(b"content-encoding", b"").decode("latin-1").strip().lower()
    if encoding not in ("", "identity"):
        raise InferenceError(
            f"Triton's response is compressed ({encoding[:20]}), which the frontend does not accept. Switch "
            "compression off in the proxy in front of Triton.",
            code=COMPRESSED,
        )


def unreadable(model: str) -> InferenceError:
    """The error for a response with status 200 that does not have Triton's form."""
    return InferenceError(f"The response of the model {model} cannot be read.", code=UNREADABLE)
