# SPDX-License-Identifier: Apache-2.0
"""Gives every request an id: the caller's `X-Request-ID`, or a new one. It goes to the log, to Triton and back."""

import re
import secrets
from contextvars import ContextVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "X-Request-ID"
_NAME = HEADER.lower().encode()
# What a caller may choose: it ends up in logs and headers.
_ALLOWED = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")

current_request_id: ContextVar[str] = ContextVar("current_request_id", default="")


class RequestIDMiddleware:
    """Sets `current_request_id` for the request, and the header on its answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        asked = next((value for name, value in scope["headers"] if name == _NAME), b"").decode("latin-1")
        request_id = asked if _ALLOWED.fullmatch(asked) else secrets.token_hex(16)
        current_request_id.set(request_id)
        header = (_NAME, request_id.encode())

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*(each for each in message.get("headers", ()) if each[0] != _NAME), header]
            await send(message)

        await self.app(scope, receive, send_with_id)
