# SPDX-License-Identifier: Apache-2.0
"""Every error that a client can get, each with its HTTP status and a stable code. `problem_details` makes responses
of them."""

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
        if retry_after_s is not None:  # the header `Retry-After` can carry neither infinite nor negative seconds
            retry_after_s = max(0.0, retry_after_s) if math.isfinite(retry_after_s) else None
        self.retry_after_s = retry_after_s


class UnreadableRequestError(FastAPITritonError, status=400, code="unreadable_request"):
    """The body cannot be read at all: not JSON, a broken form, not UTF-8."""


class UnauthorizedError(FastAPITritonError, status=401, code="unauthorized"):
    """No API key, or none that is known; `challenges` are for `WWW-Authenticate`."""

    def __init__(self, detail: str, *, code: str | None = None, challenges: Sequence[str] = ("Bearer",)) -> None:
        super().__init__(detail, code=code)
        self.challenges = tuple(challenges)


class NotAllowedError(FastAPITritonError, status=403, code="not_allowed"):
    """The caller may not do this here."""


class NotFoundError(FastAPITritonError, status=404, code="not_found"):
    """No such route."""


class MethodNotAllowedError(FastAPITritonError, status=405, code="method_not_allowed"):
    """The route exists, but not for this HTTP method; `allowed` names those that it takes."""

    def __init__(self, detail: str, *, allowed: Sequence[str] = ()) -> None:
        super().__init__(detail)
        self.allowed = tuple(allowed)


class NotAcceptableError(FastAPITritonError, status=406, code="not_acceptable"):
    """The endpoint cannot answer in any format that the caller accepts."""


class RequestTooSlowError(FastAPITritonError, status=408, code="request_too_slow"):
    """The request did not come whole within its time."""


class ConflictError(FastAPITritonError, status=409, code="conflict"):
    """It contradicts what is there already."""


class GoneError(FastAPITritonError, status=410, code="gone"):
    """It was here once, and is not kept any longer."""


class TooLargeError(FastAPITritonError, status=413, code="too_large"):
    """A body or a picture over its limit."""


class UnsupportedMediaError(FastAPITritonError, status=415, code="unsupported_media_type"):
    """The body comes in a format that the endpoint does not read."""


class InvalidRequestError(FastAPITritonError, status=422, code="invalid_request"):
    """Readable, but it can't be served; Triton's INVALID_ARG too."""


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


class TooManyRequestsError(FastAPITritonError, status=429, code="too_many_requests"):
    """This caller sends more than its share; others are served."""


class HeadTooLargeError(FastAPITritonError, status=431, code="head_too_large"):
    """The request's line and headers are over their limit."""


class ClientDisconnectedError(FastAPITritonError, status=499, code="caller_left"):
    """The caller closed its connection before the answer. It is logged; nothing is sent."""


class InferenceError(FastAPITritonError, status=502, code="inference_failed"):
    """Triton or the model failed. Its own text stays in the log."""


class OverloadedError(FastAPITritonError, status=503, code="overloaded"):
    """Too much is in flight or queued; the same request may succeed later."""


class ShuttingDownError(FastAPITritonError, status=503, code="shutting_down"):
    """This process takes no new work; another one, or the next, will."""


class TritonUnavailableError(FastAPITritonError, status=503, code="triton_unavailable"):
    """Triton cannot be reached, or the connection to it broke."""


class ModelNotReadyError(FastAPITritonError, status=503, code="model_not_ready"):
    """Triton answers, but this model is not loaded (yet)."""


class ContractError(FastAPITritonError, status=503, code="contract_mismatch"):
    """An endpoint's declaration does not fit the model's config; `mismatches` lists every reason in words."""

    def __init__(self, detail: str, *, mismatches: Sequence[str]) -> None:
        super().__init__(detail)
        self.mismatches = tuple(mismatches)


class DeadlineExceededError(FastAPITritonError, status=504, code="deadline_exceeded"):
    """No answer before the deadline."""
