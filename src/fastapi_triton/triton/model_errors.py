# SPDX-License-Identifier: Apache-2.0
"""Errors that a model reports as JSON in its `TritonError`: `code`, `detail`, `field`, `retry_after_s`.

A model may repeat a client's text in an error. So the JSON must be the whole message, and only the codes listed here
are accepted. Otherwise a client could choose a code on which monitoring and the frontend itself act.
"""

import math
import re

from pydantic import BaseModel, ValidationError

from fastapi_triton.core.errors import (
    DeadlineExceededError,
    FastAPITritonError,
    FieldProblem,
    InferenceError,
    InvalidRequestError,
    OverloadedError,
    TooLargeError,
    pointer,
)

# The error class of each code. Triton's status is too coarse, and missing inside a stream.
_BY_CODE: dict[str, type[FastAPITritonError]] = {
    "cancelled": OverloadedError,
    "deadline_exceeded": DeadlineExceededError,
    "decoder_unavailable": OverloadedError,
    "generation_failed": InferenceError,
    "image_too_large": TooLargeError,
    "out_of_memory": OverloadedError,
    "queue_full": OverloadedError,
    "shutting_down": OverloadedError,
    "vae_overflow": InferenceError,
}
# Codes for invalid requests.
_OF_REQUESTS = frozenset(
    (
        *("empty_mask", "image_too_complex", "not_an_image", "truncated_image", "undecodable_image"),
        *("unsupported_aspect_ratio", "unsupported_size"),
        *("invalid_base64", "invalid_text", "invalid_value", "missing_input", "not_finite", "out_of_range"),
        *("too_long", "too_short", "unknown_lora", "unknown_option", "unknown_preset", "unknown_scheduler"),
        *("unsupported_parameter", "unusable_lora"),
        *("wrong_shape", "wrong_type"),
    )
)
# Every code that a model may set; docs/reference/errors.md lists them.
CODES = frozenset(_BY_CODE) | _OF_REQUESTS
# The code if a model rejects a request with a code that is not listed here.
REFUSED_BY_MODEL = "refused_by_model"

# `Retry-After` of an overloaded model that sends none.
RETRY_AFTER_S = 2.0
_MAX_RETRY_AFTER_S = 3600.0
_MAX_DETAIL, _MAX_FIELD = 2000, 100
# Triton adds this prefix to the message of a model inside an ensemble.
_ENSEMBLES = re.compile(r"(in ensemble '[^'{]*', )*")


class ModelFailure(BaseModel):
    """The JSON text of a model's `TritonError`."""

    code: str
    detail: str
    field: str | None = None
    retry_after_s: float | None = None

    @classmethod
    def of(cls, text: str) -> "ModelFailure | None":
        """The failure in a message; None if the message is plain text."""
        start = _ENSEMBLES.match(text)
        try:
            return cls.model_validate_json(text[start.end() :] if start else text)
        except ValidationError:
            return None

    def error(self, status: int) -> FastAPITritonError:
        """The error for the client. If the code is unknown, Triton's `status` decides."""
        kind = InvalidRequestError if self.code in _OF_REQUESTS else _BY_CODE.get(self.code) or _by_status(status)
        code: str | None = self.code if self.code in CODES else None
        if code is None and kind is InvalidRequestError:
            code = REFUSED_BY_MODEL
        detail = self.detail[:_MAX_DETAIL]
        problems = []
        if self.field:
            problems = [FieldProblem(pointer((self.field[:_MAX_FIELD],)), code or kind.default_code, detail)]
        return kind(detail, code=code, problems=problems, retry_after_s=self._retry_after_s(kind))

    def _retry_after_s(self, kind: type[FastAPITritonError]) -> float | None:
        retry_after_s = self.retry_after_s
        if retry_after_s is not None and math.isfinite(retry_after_s) and retry_after_s > 0:
            return min(retry_after_s, _MAX_RETRY_AFTER_S)
        return RETRY_AFTER_S if kind is OverloadedError else None


def _by_status(status: int) -> type[FastAPITritonError]:
    if status == 400:
        return InvalidRequestError
    return OverloadedError if status == 503 else InferenceError
