# SPDX-License-Identifier: Apache-2.0
"""Sets every request's deadline: the client's `X-Request-Timeout`, at most `request_timeout_s`."""

import time
from collections.abc import Awaitable
from functools import partial

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastapi_triton.core.context import current_deadline
from fastapi_triton.core.errors import UnreadableRequestError, shown

HEADER = "X-Request-Timeout"
_NAME = HEADER.lower().encode()


class DeadlineMiddleware:
    """Sets `current_deadline`, counted from the arrival of the request.

    An invalid header raises an error when the endpoint reads the body, so that the response has the error format of the
    endpoint's API.
    """

    def __init__(self, app: ASGIApp, max_timeout_s: float) -> None:
        self.app = app
        self.max_timeout_s = max_timeout_s

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http":
            timeout_s = self.max_timeout_s
            for name, value in scope["headers"]:
                if name == _NAME:
                    requested_s = _seconds(value)
                    if requested_s is None:
                        receive = partial(_raise_invalid, value)
                    elif requested_s < timeout_s:
                        timeout_s = requested_s
            current_deadline.set(time.monotonic() + timeout_s)
        return self.app(scope, receive, send)  # a coroutine around it would cost every request time


def _seconds(text: bytes) -> float | None:
    """A number above 0, as digits with at most one point; None for anything else."""
    # A float of more digits may be infinity.
    if len(text) > 20 or not text.replace(b".", b"", 1).isdigit():
        return None
    return float(text) or None


async def _raise_invalid(value: bytes) -> Message:
    raise UnreadableRequestError(
        f"The header {HEADER} is `{shown(value.decode('latin-1'))}`; it must be a number of seconds above 0, such as "
        "30 or 2.5.",
        code="invalid_timeout",
    )
