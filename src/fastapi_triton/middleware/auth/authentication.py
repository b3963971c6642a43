# SPDX-License-Identifier: Apache-2.0
"""Identifies the caller of a request, and rejects requests without a valid key or beyond the caller's rate limit.

Without API keys the app uses `AddressMiddleware`, which costs next to nothing if there are no rate limits.
"""

import time
from collections.abc import Awaitable, Callable, Collection

from starlette.types import ASGIApp, Receive, Scope, Send

from fastapi_triton.core import paths
from fastapi_triton.core.context import Caller, current_caller
from fastapi_triton.core.errors import FastAPITritonError, NotAllowedError, TooManyRequestsError
from fastapi_triton.core.paths import route_path
from fastapi_triton.core.problem_details import send_error
from fastapi_triton.middleware.auth import credentials, scopes
from fastapi_triton.middleware.auth.anonymous_clients import AnonymousClient, AnonymousClients
from fastapi_triton.middleware.auth.keys import Key, Keys

# Requests that cancel or watch work do not count against a rate limit.
_UNLIMITED = (f"{paths.A1111}/v1/interrupt", f"{paths.A1111}/v1/skip", paths.A1111_INTERNAL_PROGRESS)
# Browsers attach stored Basic credentials to requests from any page.
_CROSS_SITE = (b"cross-site", b"same-site")


class AddressMiddleware:
    """Identifies callers by their IP address."""

    def __init__(self, app: ASGIApp, addresses: AnonymousClients) -> None:
        self.app = app
        self._addresses = addresses

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "lifespan":
            address = self._addresses.find(scope.get("client"))
            current_caller.set(address.caller)
            if address.bucket is not None:
                try:
                    _take(address, scope)
                except FastAPITritonError as error:
                    return send_error(error, scope, receive, send)
        return self.app(scope, receive, send)


class APIKeyMiddleware:
    """Identifies callers by their API key.

    `public` scopes need no key. For these, and on open paths, a caller without a key is identified by its IP address.
    """

    def __init__(
        self, app: ASGIApp, keys: Callable[[], Keys], addresses: AnonymousClients, public: Collection[scopes.Scope] = ()
    ) -> None:
        self.app = app
        self._keys = keys
        self._addresses = addresses
        self._public = frozenset(public)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            try:
                self._admit(scope)
            except FastAPITritonError as error:
                await send_error(error, scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _admit(self, scope: Scope) -> None:
        """Set the caller of a request, also for the log line of a rejected one.

        Raises:
            UnauthorizedError: the key is missing, unknown or expired.
            NotAllowedError: the key lacks the scope, or a page of another site uses it.
            TooManyRequestsError: the caller is over its rate limit.
        """
        needed = scopes.of(scope.get("method", "GET"), route_path(scope))
        headers = scope["headers"]
        if needed is None:
            current_caller.set(self._addresses.find(scope.get("client")).caller)
            return
        secret = credentials.find_key(headers)
        key = self._keys().find(secret) if secret is not None else None
        if key is None:
            address = self._addresses.find(scope.get("client"))
            current_caller.set(address.caller)
            if secret is not None:
                raise credentials.refusal(headers, "unknown_key")
            if needed not in self._public:
                raise credentials.refusal(headers, "missing_key")
            # Later checks, too, allow only the public scopes.
            current_caller.set(Caller(address.caller.name, self._public, address.caller.max_in_flight))
            _take(address, scope)
            return
        current_caller.set(key.caller)
        if key.has_expired:
            raise credentials.refusal(headers, "expired_key")
        if needed not in key.entry.scopes and needed not in self._public:
            raise scopes.missing(needed)
        _reject_cross_site(scope)
        _take(key, scope)


def _reject_cross_site(scope: Scope) -> None:
    """Raise an error if a page of another site uses the key that the browser has stored for this site."""
    if scope.get("method") in ("GET", "HEAD", "OPTIONS"):
        return
    headers = dict(scope["headers"])
    is_stored = b"x-api-key" not in headers and headers.get(b"authorization", b"")[:6].lower() == b"basic "
    if is_stored and headers.get(b"sec-fetch-site") in _CROSS_SITE:
        raise NotAllowedError(
            "A page of another site may not use the API key that the browser has stored. Send the key as "
            "`Authorization: Bearer <key>` or as `X-API-Key: <key>`.",
            code="cross_site",
        )


def _take(caller: Key | AnonymousClient, scope: Scope) -> None:
    """Take a token for a request that starts work. Other requests need none."""
    if caller.bucket is None or scope.get("method") != "POST" or route_path(scope) in _UNLIMITED:
        return
    wait_s = caller.bucket.take(time.monotonic())
    if wait_s:
        raise TooManyRequestsError(
            f"You have reached your rate limit. Try again in {wait_s:.1f} s.",
            code="rate_limited",
            retry_after_s=wait_s,
        )
