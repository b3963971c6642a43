# SPDX-License-Identifier: Apache-2.0
"""Refuses bodies over the limit while they arrive, and compressed ones, whose real size is unknown. (FastAPI's
`max_body_size` cannot use our format of errors.)"""

from collections.abc import Awaitable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastapi_triton.core.errors import FastAPITritonError, TooLargeError, UnsupportedMediaError, shown
from fastapi_triton.core.paths import route_path

# Of a Content-Length, leading zeros included.
_MAX_DIGITS = 20


class MaxBodySizeMiddleware:
    """Counts what is read; over `max_bytes` the reader meets a `TooLargeError`. Below a path that begins with
    `compressed_below` bodies may be compressed."""

    def __init__(self, app: ASGIApp, max_bytes: int, compressed_below: str = "") -> None:
        self.app = app
        self.max_bytes = max_bytes
        self._compressed_below = compressed_below

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http":
            return self.app(scope, receive, send)
        refusal, is_bounded = self._look(scope)
        if is_bounded and refusal is None:
            return self.app(scope, receive, send)  # no server gives more than the request said
        num_bytes = 0

        async def counted_receive() -> Message:
            nonlocal num_bytes
            if refusal is not None:
                raise refusal
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > self.max_bytes:
                raise self._too_large()
            return message

        return self.app(scope, counted_receive, send)

    def _look(self, scope: Scope) -> tuple[FastAPITritonError | None, bool]:
        """Why the body is refused before it comes, and whether its length is known before."""
        refusal: FastAPITritonError | None = None
        has_length, is_chunked = False, False
        for name, value in scope["headers"]:
            if name == b"content-length":
                has_length = value.isdigit()
                # Python refuses to read an integer of more than 4,300 digits.
                if has_length and (len(value) > _MAX_DIGITS or int(value) > self.max_bytes):
                    refusal = self._too_large()
            elif name == b"transfer-encoding":
                is_chunked = True  # by which a server may go, whatever else is said
            elif name == b"content-encoding":
                refusal = self._compressed(value, scope) or refusal
        return refusal, has_length and not is_chunked

    def _compressed(self, encoding: bytes, scope: Scope) -> FastAPITritonError | None:
        if encoding.strip().lower() in (b"", b"identity"):
            return None
        if self._compressed_below and route_path(scope).startswith(self._compressed_below):
            return None
        return UnsupportedMediaError(
            f"The body comes with Content-Encoding: {shown(encoding.decode('latin-1'))}. Send it as it is: pictures "
            "are compressed already.",
            code="compressed_body",
        )

    def _too_large(self) -> TooLargeError:
        return TooLargeError(
            f"The body is over the limit of {self.max_bytes:,} bytes. Send a smaller picture.", code="body_too_large"
        )
