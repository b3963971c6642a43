# SPDX-License-Identifier: Apache-2.0
"""Gives every request its deadline: the client's `X-Request-Timeout`, at most the app's own limit."""

import time
from collections.abc import Awaitable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastapi_triton.core.context import current_deadline
from fastapi_triton.core.errors import UnreadableRequestError

HEADER = "X-Request-Timeout"
_NAME = HEADER.lower().encode()


class DeadlineMiddleware:
    """Sets `current_deadline`, counted from the request's arrival. An invalid header raises an error when the
    endpoint reads the body, so that the response has the format of the endpoint's errors."""

    def __init__(self, app: ASGIApp, max_timeout_s: float) -> None:
        self.app = app
        self.max_timeout_s = max_timeout_s

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http":
            timeout_s = self.max_timeout_s
            for name, value in scope["headers"]:
                if name == _NAME:
                    asked_s = _seconds(value)
                    if asked_s is None:
                        receive = _refuse
                    elif asked_s < timeout_s:
                        timeout_s = asked_s
            current_deadline.set(time.monotonic() + timeout_s)
        return self.app(scope, receive, send)  # no coroutine of its own, which every request would have to enter


def _seconds(text: bytes) -> float | None:
    """Digits with at most one point; None for anything else, and for no time at all."""
    # More digits than any time has would be infinity; that is no number of seconds.
    if len(text) > 20 or not text.replace(b".", b"", 1).isdigit():
        return None
    return float(text) or None


async def _refuse() -> Message:
    raise UnreadableRequestError(
        f"The header {HEADER} must be a number of seconds above 0, as 30 or 2.5.", code="invalid_timeout"
    )
