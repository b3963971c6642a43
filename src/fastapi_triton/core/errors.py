# SPDX-License-Identifier: Apache-2.0
"""All errors that clients can get, each with an HTTP status and a stable code.

`problem_details` turns them into responses.
"""

import math
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

# Maximum characters of a client's text in an error: of one value, of one problem, of the whole `detail`.
MAX_SHOWN = 100
_MAX_PROBLEM_DETAIL = 1000
_MAX_DETAIL = 4000
_MAX_POINTER = 500
# A body may have a million problems; more than this do not help.
MAX_PROBLEMS = 50


class _Brief(reprlib.Repr):
    """Shortens large values. Python itself raises an error for integers of more than 4,300 digits."""

    def repr_int(self, x: int, level: int) -> str:  # noqa: ARG002
        return str(x) if x.bit_length() <= 128 else f"<integer of {x.bit_length()} bits>"


_BRIEF = _Brief()


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One problem with one field: `pointer` is a JSON pointer as a URI fragment (`#/image`).

    Long pointers and details are shortened.
    """

    pointer: str
    code: str
    detail: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "pointer", _writable(self.pointer, _MAX_POINTER))
        object.__setattr__(self, "detail", _writable(self.detail, _MAX_PROBLEM_DETAIL))


def shown(value: object) -> str:
    """A client's value for an error or a log line: on one line, at most `MAX_SHOWN` characters."""
    text = shortened(value if isinstance(value, str) else _BRIEF.repr(value), MAX_SHOWN)
    return text if text.isprintable() else repr(text)[1:-1]


def shortened(text: str, limit: int) -> str:
    """The text, cut to `limit` characters with "…" at its end if it is longer."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _writable(text: str, limit: int) -> str:
    """Shortened text, with "?" for characters that UTF-8 cannot encode: JSON may contain half a surrogate pair."""
    text = shortened(text, limit)
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def pointer(location: Sequence[int | str]) -> str:
    """A JSON pointer (RFC 6901) as a URI fragment. Very long names in it are shortened."""
    parts = (shortened(str(part), MAX_SHOWN) for part in location)
    return "#" + "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in parts)


class FastAPITritonError(Exception):
    """Base class of all errors. `detail` is for clients: the reason, and what to do about it.

    It is cut at 4,000 characters, and at most `MAX_PROBLEMS` problems are kept.
    """

    status: ClassVar[int] = 500
    default_code: ClassVar[str] = "internal_error"

    def __init_subclass__(cls, *, status: int | None = None, code: str | None = None) -> None:
        if status is not None:
            cls.status = status
        if code is not None:
            cls.default_code = code

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
        if retry_after_s is not None:  # `Retry-After` allows neither infinite nor negative seconds
            retry_after_s = max(0.0, retry_after_s) if math.isfinite(retry_after_s) else None
        self.retry_after_s = retry_after_s


class UnreadableRequestError(FastAPITritonError, status=400, code="unreadable_request"):
    """The body cannot be parsed: invalid JSON, an invalid form, or not UTF-8."""


class UnauthorizedError(FastAPITritonError, status=401, code="unauthorized"):
    """The API key is missing or unknown; `challenges` are for `WWW-Authenticate`."""

    def __init__(self, detail: str, *, code: str | None = None, challenges: Sequence[str] = ("Bearer",)) -> None:
        super().__init__(detail, code=code)
        self.challenges = tuple(challenges)


class NotAllowedError(FastAPITritonError, status=403, code="not_allowed"):
    """The caller lacks the permission."""


class NotFoundError(FastAPITritonError, status=404, code="not_found"):
    """The route does not exist."""


class MethodNotAllowedError(FastAPITritonError, status=405, code="method_not_allowed"):
    """The route does not support this HTTP method; `allowed` lists its methods."""

    def __init__(self, detail: str, *, allowed: Sequence[str] = ()) -> None:
        super().__init__(detail)
        self.allowed = tuple(allowed)


class NotAcceptableError(FastAPITritonError, status=406, code="not_acceptable"):
    """The endpoint cannot respond in any format that the client accepts."""


class RequestTooSlowError(FastAPITritonError, status=408, code="request_too_slow"):
    """The request did not arrive completely within its time limit."""


class ConflictError(FastAPITritonError, status=409, code="conflict"):
    """The request conflicts with the current state."""


class GoneError(FastAPITritonError, status=410, code="gone"):
    """The resource existed, and was deleted."""


class TooLargeError(FastAPITritonError, status=413, code="too_large"):
    """A body or an image exceeds its limit."""


class UnsupportedMediaError(FastAPITritonError, status=415, code="unsupported_media_type"):
    """The endpoint does not support the body's media type."""


class InvalidRequestError(FastAPITritonError, status=422, code="invalid_request"):
    """The request is well-formed but invalid. Also for Triton's INVALID_ARG."""


def invalid_request(problems: Sequence[FieldProblem], *, num_unlisted: int = 0) -> InvalidRequestError:
    """One error for all problems with a request; `num_unlisted` is the number of further problems."""
    code = problems[0].code if len({problem.code for problem in problems}) == 1 else "invalid_request"
    detail = " ".join(problem.detail for problem in problems)
    if num_unlisted > 0:
        detail = f"There are {num_unlisted:,} more problems than these. {detail}"
    return InvalidRequestError(detail, code=code, problems=problems)


def invalid_field(name: str, code: str, detail: str) -> InvalidRequestError:
    """The error for one problem with one field."""
    return invalid_request([FieldProblem(pointer((name,)), code, detail)])


class TooManyRequestsError(FastAPITritonError, status=429, code="too_many_requests"):
    """This caller exceeds its own limit; requests of others are served."""


class HeadTooLargeError(FastAPITritonError, status=431, code="head_too_large"):
    """The request line and headers exceed their limit."""


class ClientDisconnectedError(FastAPITritonError, status=499, code="caller_left"):
    """The client disconnected before the response. This is logged; no response is sent."""


class InferenceError(FastAPITritonError, status=502, code="inference_failed"):
    """Triton or the model failed. Its own error text is only logged."""


class OverloadedError(FastAPITritonError, status=503, code="overloaded"):
    """The frontend or Triton is at its limit; the same request may succeed later."""


class ShuttingDownError(FastAPITritonError, status=503, code="shutting_down"):
    """This process is shutting down and accepts no new requests."""


class TritonUnavailableError(FastAPITritonError, status=503, code="triton_unavailable"):
    """Triton cannot be reached, or the connection was lost. `reason` is the cause alone, for the log."""

    def __init__(
        self, detail: str, *, reason: str = "", code: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(detail, code=code, retry_after_s=retry_after_s)
        self.reason = reason or self.detail


class ModelNotReadyError(FastAPITritonError, status=503, code="model_not_ready"):
    """Triton responds, but the model is not loaded (yet)."""


class ContractError(FastAPITritonError, status=503, code="contract_mismatch"):
    """An endpoint's declaration does not match its model's config; `mismatches` has a sentence for each reason."""

    def __init__(self, detail: str, *, mismatches: Sequence[str]) -> None:
        super().__init__(detail)
        self.mismatches = tuple(mismatches)


class DeadlineExceededError(FastAPITritonError, status=504, code="deadline_exceeded"):
    """There was no response before the deadline."""
