# SPDX-License-Identifier: Apache-2.0
"""Every error a caller can meet. Each class knows its HTTP status and a stable code; `problems.py` turns it into HTTP.

FastAPITritonError            500 internal_error
├── UnreadableRequestError    400 unreadable_request
├── UnauthorizedError         401 unauthorized
├── NotAllowedError           403 not_allowed
├── NotFoundError             404 not_found
├── MethodNotAllowedError     405 method_not_allowed
├── NotAcceptableError        406 not_acceptable
├── RequestTooSlowError       408 request_too_slow
├── ConflictError             409 conflict
├── GoneError                 410 gone
├── TooLargeError             413 too_large
├── UnsupportedMediaError     415 unsupported_media_type
├── InvalidRequestError       422 invalid_request
├── TooManyRequestsError      429 too_many_requests
├── HeadTooLargeError         431 head_too_large
├── CallerLeftError           499 caller_left
├── InferenceError            502 inference_failed
├── OverloadedError           503 overloaded
├── ShuttingDownError         503 shutting_down
├── TritonUnavailableError    503 triton_unavailable
├── ModelNotReadyError        503 model_not_ready
├── ContractError             503 contract_mismatch
└── DeadlineExceededError     504 deadline_exceeded
"""

import math
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

# How many characters of a request an error repeats: of one value, in one sentence, in all of them.
MAX_SHOWN = 100
_MAX_PROBLEM_DETAIL = 1000
_MAX_DETAIL = 4000
_MAX_POINTER = 500
# More problems do not help, and a body may have a million.
MAX_PROBLEMS = 50


class _Brief(reprlib.Repr):
    """Writes the beginning of a large value. Python itself refuses to write an integer of more than 4,300 digits."""

    def repr_int(self, x: int, level: int) -> str:  # noqa: ARG002
        return str(x) if x.bit_length() <= 128 else f"<integer of {x.bit_length()} bits>"


_BRIEF = _Brief()


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """What is wrong with one field: `pointer` is a JSON pointer as a URI fragment (`#/image`).

    Both texts are shortened where a client's text makes them long.
    """

    pointer: str
    code: str
    detail: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "pointer", _writable(self.pointer, _MAX_POINTER))
        object.__setattr__(self, "detail", _writable(self.detail, _MAX_PROBLEM_DETAIL))


def shown(value: object) -> str:
    """A client's value as an error, a note or a log line repeats it: on one line, at most `MAX_SHOWN` characters."""
    text = shortened(value if isinstance(value, str) else _BRIEF.repr(value), MAX_SHOWN)
    return text if text.isprintable() else repr(text)[1:-1]


def shortened(text: str, limit: int) -> str:
    """The beginning of a text that is longer than `limit` characters, with "…" in place of the rest."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _writable(text: str, limit: int) -> str:
    """Shortened text, with "?" for what UTF-8 cannot encode: JSON from clients may hold half a surrogate pair."""
    text = shortened(text, limit)
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def pointer(location: Sequence[int | str]) -> str:
    """A JSON pointer (RFC 6901) as a URI fragment. A very long name in it is shortened."""
    parts = (shortened(str(part), MAX_SHOWN) for part in location)
    return "#" + "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in parts)


class FastAPITritonError(Exception):
    """Root of the tree. `detail` is read by callers: the reason, and what to do about it.

    It is cut at some thousand characters, and no more than `MAX_PROBLEMS` problems are kept.
    """

    status: ClassVar[int] = 500
    default_code: ClassVar[str] = "internal_error"

    def __init__(
        self,
        detail: str,
        *,
        code: str | None = None,
        problems: Sequence[FieldProblem] = (),
        retry_after_s: float | None = None,
    ) -> None:
        self.detail = _writable(detail, _MAX_DETAIL)
        super().__init__(self.detail)
        self.code = code or self.default_code
        self.problems = tuple(problems[:MAX_PROBLEMS])
        self.retry_after_s = _sendable(retry_after_s)


def _sendable(retry_after_s: float | None) -> float | None:
    """Seconds that the header `Retry-After` can carry: neither infinite nor negative."""
    if retry_after_s is None or not math.isfinite(retry_after_s):
        return None
    return max(0.0, retry_after_s)


class UnreadableRequestError(FastAPITritonError):
    """The body cannot be read at all: not JSON, a broken form, not UTF-8."""

    status = 400
    default_code = "unreadable_request"


class UnauthorizedError(FastAPITritonError):
    """No API key, or none that is known; `challenges` are for `WWW-Authenticate`."""

    status = 401
    default_code = "unauthorized"

    def __init__(self, detail: str, *, code: str | None = None, challenges: Sequence[str] = ("Bearer",)) -> None:
        super().__init__(detail, code=code)
        self.challenges = tuple(challenges)


class NotAllowedError(FastAPITritonError):
    """The caller may not do this here."""

    status = 403
    default_code = "not_allowed"


class NotFoundError(FastAPITritonError):
    """No such route."""

    status = 404
    default_code = "not_found"


class MethodNotAllowedError(FastAPITritonError):
    """The route exists, but not for this HTTP method; `allowed` names those that it takes."""

    status = 405
    default_code = "method_not_allowed"

    def __init__(self, detail: str, *, allowed: Sequence[str] = ()) -> None:
        super().__init__(detail)
        self.allowed = tuple(allowed)


class NotAcceptableError(FastAPITritonError):
    """The endpoint cannot answer in any format that the caller accepts."""

    status = 406
    default_code = "not_acceptable"


class RequestTooSlowError(FastAPITritonError):
    """The request did not come whole within its time."""

    status = 408
    default_code = "request_too_slow"


class ConflictError(FastAPITritonError):
    """It contradicts what is there already."""

    status = 409
    default_code = "conflict"


class GoneError(FastAPITritonError):
    """It was here once, and is not kept any longer."""

    status = 410
    default_code = "gone"


class TooLargeError(FastAPITritonError):
    """A body or a picture over its limit."""

    status = 413
    default_code = "too_large"


class UnsupportedMediaError(FastAPITritonError):
    """The body comes in a format that the endpoint does not read."""

    status = 415
    default_code = "unsupported_media_type"


class InvalidRequestError(FastAPITritonError):
    """Readable, but it can't be served; Triton's INVALID_ARG too."""

    status = 422
    default_code = "invalid_request"


def refusal(problems: Sequence[FieldProblem], *, num_unlisted: int = 0) -> InvalidRequestError:
    """One error for all problems with a request; `num_unlisted` is how many there are beside these."""
    code = problems[0].code if len({problem.code for problem in problems}) == 1 else "invalid_request"
    detail = " ".join(problem.detail for problem in problems)
    if num_unlisted > 0:
        detail = f"There are {num_unlisted:,} more problems than are listed here. {detail}"
    return InvalidRequestError(detail, code=code, problems=problems)


def invalid_field(name: str, code: str, detail: str) -> InvalidRequestError:
    """The error for one problem of one field."""
    return refusal([FieldProblem(pointer((name,)), code, detail)])


class TooManyRequestsError(FastAPITritonError):
    """This caller sends more than its share; others are served."""

    status = 429
    default_code = "too_many_requests"


class HeadTooLargeError(FastAPITritonError):
    """The request's line and headers are over their limit."""

    status = 431
    default_code = "head_too_large"


class CallerLeftError(FastAPITritonError):
    """The caller closed its connection before the answer. It is logged; nothing is sent."""

    status = 499
    default_code = "caller_left"


class InferenceError(FastAPITritonError):
    """Triton or the model failed. Its own text stays in the log."""

    status = 502
    default_code = "inference_failed"


class OverloadedError(FastAPITritonError):
    """Too much is in flight or queued; the same request may succeed later."""

    status = 503
    default_code = "overloaded"


class ShuttingDownError(FastAPITritonError):
    """This process takes no new work; another one, or the next, will."""

    status = 503
    default_code = "shutting_down"


class TritonUnavailableError(FastAPITritonError):
    """Triton cannot be reached, or the connection to it broke."""

    status = 503
    default_code = "triton_unavailable"


class ModelNotReadyError(FastAPITritonError):
    """Triton answers, but this model is not loaded (yet)."""

    status = 503
    default_code = "model_not_ready"


class ContractError(FastAPITritonError):
    """An endpoint's declaration does not fit the model's config; `mismatches` lists every reason in words."""

    status = 503
    default_code = "contract_mismatch"

    def __init__(self, detail: str, *, mismatches: Sequence[str]) -> None:
        super().__init__(detail)
        self.mismatches = tuple(mismatches)


class DeadlineExceededError(FastAPITritonError):
    """No answer before the deadline."""

    status = 504
    default_code = "deadline_exceeded"
