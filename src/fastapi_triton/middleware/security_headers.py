# SPDX-License-Identifier: Apache-2.0
"""Response headers that keep browsers from guessing media types, framing pages and leaking referrers."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)
_POLICY = b"content-security-policy"
# A response that is not HTML never loads anything. HTML does: the page and `/docs` load scripts and styles.
_NO_DOCUMENT = (_POLICY, b"default-src 'none'; frame-ancestors 'none'")
_DOCUMENT = (_POLICY, b"frame-ancestors 'none'; base-uri 'none'; object-src 'none'")


class SecurityHeadersMiddleware:
    """Adds the headers that a response lacks. `hsts_max_age_s` makes browsers stay with TLS for that long."""

    def __init__(self, app: ASGIApp, hsts_max_age_s: int = 0) -> None:
        self.app = app
        self._hsts = (b"strict-transport-security", b"max-age=%d" % hsts_max_age_s) if hsts_max_age_s else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        extra = (*_ALWAYS, self._hsts) if self._hsts and scope.get("scheme") == "https" else _ALWAYS

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                names = {name.lower() for name, _ in headers}
                is_document = any(name == b"content-type" and value[:9] == b"text/html" for name, value in headers)
                added = (*extra, _DOCUMENT if is_document else _NO_DOCUMENT)
                message["headers"] = headers + [each for each in added if each[0] not in names]
            await send(message)

        await self.app(scope, receive, send_with_headers)
