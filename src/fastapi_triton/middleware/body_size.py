# SPDX-License-Identifier: Apache-2.0
"""Refuses a body over the limit while it streams in. (FastAPI's `max_body_size` cannot answer in our errors' form.)"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastapi_triton.errors import TooLargeError


class BodySizeMiddleware:
    """Counts what is read; over `max_bytes` the reader meets a `TooLargeError`."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        is_declared_too_large = declared.isdigit() and int(declared) > self.max_bytes
        num_bytes = 0

        async def counted_receive() -> Message:
            nonlocal num_bytes
            if is_declared_too_large:
                raise self._too_large()
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > self.max_bytes:
                raise self._too_large()
            return message

        await self.app(scope, counted_receive, send)

    def _too_large(self) -> TooLargeError:
        return TooLargeError(
            f"The body is over the limit of {self.max_bytes:,} bytes. Send a smaller picture.", code="body_too_large"
        )
