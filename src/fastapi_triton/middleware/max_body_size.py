# SPDX-License-Identifier: Apache-2.0
"""Rejects bodies over the limit while they arrive, and compressed bodies, whose real size is unknown.

(FastAPI's `max_body_size` cannot use our error format.)
"""

from collections.abc import Awaitable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastapi_triton.core.errors import FastAPITritonError, TooLargeError, UnsupportedMediaError, shown
from fastapi_triton.core.paths import route_path

# The limit for a Content-Length, leading zeros included.
_MAX_DIGITS = 20


class MaxBodySizeMiddleware:
    """Counts the bytes that the app reads, and raises a `TooLargeError` beyond `max_bytes`.

    Bodies for paths that begin with `compressed_below` may be compressed.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, compressed_below: str = "") -> None:
        self.app = app
        self.max_bytes = max_bytes
        self._compressed_below = compressed_below

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http":
            return self.app(scope, receive, send)
        error, is_bounded = self._check_headers(scope)
        if is_bounded and error is None:
            return self.app(scope, receive, send)  # servers pass on at most Content-Length bytes
        num_bytes = 0

        async def counted_receive() -> Message:
            nonlocal num_bytes
            if error is not None:
                raise error
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > self.max_bytes:
                raise self._too_large()
            return message

        return self.app(scope, counted_receive, send)

    def _check_headers(self, scope: Scope) -> tuple[FastAPITritonError | None, bool]:
        """The error for a body that its headers rule out, and whether the headers bound its length."""
        error: FastAPITritonError | None = None
        has_length, is_chunked = False, False
        for name, value in scope["headers"]:
            if name == b"content-length":
                has_length = value.isdigit()
                # Python refuses to read an integer of more than 4,300 digits.
                if has_length and (len(value) > _MAX_DIGITS or int(value) > self.max_bytes):
                    error = self._too_large()
            elif name == b"transfer-encoding":
                is_chunked = True  # a server may then ignore Content-Length
            elif name == b"content-encoding":
                error = self._compressed(value, scope) or error
        return error, has_length and not is_chunked

    def _compressed(self, encoding: bytes, scope: Scope) -> FastAPITritonError | None:
        if encoding.strip().lower() in (b"", b"identity"):
            return None
        if self._compressed_below and route_path(scope).startswith(self._compressed_below):
            return None
        return UnsupportedMediaError(
            f"The body has Content-Encoding: {shown(encoding.decode('latin-1'))}. Send it uncompressed: pictures are "
            "compressed already.",
            code="compressed_body",
        )

    def _too_large(self) -> TooLargeError:
        return TooLargeError(
            f"The body is over the limit of {self.max_bytes:,} bytes. Send a smaller image.", code="body_too_large"
        )
