# SPDX-License-Identifier: Apache-2.0
"""What a proxy or balancer before Triton answers in its place, or makes of Triton's answer, as a client's error."""

from collections.abc import Mapping

from fastapi_triton.core.errors import (
    DeadlineExceededError,
    FastAPITritonError,
    InferenceError,
    OverloadedError,
    TooLargeError,
    TritonUnavailableError,
)
from fastapi_triton.triton.transport.errors import LOST, access_denied, wrong_scheme

RATE_LIMITED = "triton_rate_limited"
TOO_LARGE = "too_large_for_triton"
FAILED = "triton_proxy_failed"
COMPRESSED = "compressed_answer"
UNREADABLE = "unreadable_answer"

_RETRY_AFTER_S = 2.0
# What nginx, Apache and Go's servers say to plain HTTP on their TLS port.
_WRONG_SCHEME = (b"sent to HTTPS port", b"HTTP to an SSL-enabled", b"HTTP request to an HTTPS server")
# Statuses that Triton itself never sends, whatever the body looks like.
_NEVER_TRITONS = frozenset((301, 302, 303, 307, 308, 408, 413, 429, 502, 504))
# Statuses of a proxy without an upstream, or without this path: nothing was run.
_NOBODY: Mapping[int, str] = {
    301: "The URL of Triton redirects elsewhere (301); correct TRITON_URL. Nothing was run.",
    302: "The URL of Triton redirects elsewhere (302); correct TRITON_URL. Nothing was run.",
    303: "The URL of Triton redirects elsewhere (303); correct TRITON_URL. Nothing was run.",
    307: "The URL of Triton redirects elsewhere (307); correct TRITON_URL. Nothing was run.",
    308: "The URL of Triton redirects elsewhere (308); correct TRITON_URL. Nothing was run.",
    404: "The proxy before Triton has no Triton at this URL (404); correct TRITON_URL. Nothing was run.",
    503: "The proxy before Triton has no Triton available (503); nothing was run. Try again.",
}


def answered_by_proxy(status: int, body: bytes, *, is_tritons: bool) -> FastAPITritonError | None:
    """The error where something before Triton answered; None where Triton did.

    `is_tritons` says that the body has the form of Triton's errors. An empty body may be Triton's too, which answers
    some questions with a status alone.
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
        return TritonUnavailableError(_NOBODY[status], retry_after_s=_RETRY_AFTER_S)
    return _refused(status)


def _refused(status: int) -> FastAPITritonError:
    """For a status by which a proxy refuses a request, or reports that it could not finish it."""
    if status == 413:
        return TooLargeError(
            "The proxy before Triton rejects requests of this size (413); nothing was run. Send less, or ask the "
            "operator to raise the limit.",
            code=TOO_LARGE,
        )
    if status == 429:
        return OverloadedError(
            "The proxy before Triton limits the frontend's rate (429); nothing was run. Try again later.",
            code=RATE_LIMITED,
            retry_after_s=_RETRY_AFTER_S,
        )
    if status in (408, 504):
        return DeadlineExceededError(
            f"The proxy before Triton got no response in time ({status}); the request may be running."
        )
    if status == 502:
        return TritonUnavailableError(
            "The proxy before Triton lost the connection to it, or could not reach it (502); the request may have run.",
            code=LOST,
            retry_after_s=_RETRY_AFTER_S,
        )
    return InferenceError(
        f"A proxy before Triton answered {status} in its place. The log has the answer under this request's id.",
        code=FAILED,
    )


def require_plain(headers: Mapping[bytes, bytes]) -> None:
    """Raise that an answer is compressed, if it is. The frontend asks Triton for plain answers, so a proxy did that.

    Raises:
        InferenceError: it is.
    """
    encoding = headers.get(b"content-encoding", b"").decode("latin-1").strip().lower()
    if encoding not in ("", "identity"):
        raise InferenceError(
            f"Triton's answer came compressed ({encoding[:20]}), which the frontend never asks for. Switch compression "
            "off in the proxy before Triton.",
            code=COMPRESSED,
        )


def unreadable(model: str) -> InferenceError:
    """For an answer with the status 200 that does not have the form of Triton's."""
    return InferenceError(f"The model {model} gave an answer that cannot be read.", code=UNREADABLE)
