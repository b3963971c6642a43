# SPDX-License-Identifier: Apache-2.0
"""The middleware that says who calls, and turns away who may not, or not so often. Where no keys are asked for it is
`AddressMiddleware`, without limits as cheap as it can be."""

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

# What stops work must not be held up by a limit of it.
_ALWAYS = (f"{paths.A1111}/v1/interrupt",)
# A browser sends what a person typed into its dialog by itself, whichever page makes it call.
_FOREIGN = (b"cross-site", b"same-site")


class AddressMiddleware:
    """Every caller is its address."""

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
    """Every caller is its key. `public` are the scopes that need none; there, and at what is open to all, a caller
    without a key is its address."""

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
                current_caller.set(self._admit(scope))
            except FastAPITritonError as error:
                await send_error(error, scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _admit(self, scope: Scope) -> Caller:
        """Who calls.

        Raises:
            UnauthorizedError: no key, none that is known, or one that has expired.
            NotAllowedError: the key is not for this.
            TooManyRequestsError: it was used too often.
        """
        needed = scopes.of(scope.get("method", "GET"), route_path(scope))
        if needed is None:
            return self._addresses.find(scope.get("client")).caller
        headers = scope["headers"]
        secret = credentials.shown(headers)
        if secret is None:
            if needed not in self._public:
                raise credentials.refusal(headers, "missing_key")
            address = self._addresses.find(scope.get("client"))
            _take(address, scope)
            # What is public is all that it may do, here and in what is decided later.
            return Caller(address.caller.name, self._public, address.caller.max_in_flight)
        key = self._keys().find(secret)
        if key is None:
            raise credentials.refusal(headers, "unknown_key")
        if key.has_expired:
            raise credentials.refusal(headers, "expired_key")
        if needed not in key.entry.scopes and needed not in self._public:
            raise scopes.missing(needed)
        _require_own_will(scope)
        _take(key, scope)
        return key.caller


def _require_own_will(scope: Scope) -> None:
    """A page of somebody else's must not use the key that a person gave the browser for this one."""
    if scope.get("method") in ("GET", "HEAD", "OPTIONS"):
        return
    headers = dict(scope["headers"])
    is_kept = b"x-api-key" not in headers and headers.get(b"authorization", b"")[:6].lower() == b"basic "
    if is_kept and headers.get(b"sec-fetch-site") in _FOREIGN:
        raise NotAllowedError(
            "A page from elsewhere may not use the key that a browser keeps. Send it as Bearer, or as X-API-Key.",
            code="cross_site",
        )


def _take(caller: Key | AnonymousClient, scope: Scope) -> None:
    """Count a request that asks for work; looking at something is free."""
    if caller.bucket is None or scope.get("method") != "POST" or route_path(scope) in _ALWAYS:
        return
    wait_s = caller.bucket.take(time.monotonic())
    if wait_s:
        raise TooManyRequestsError(
            f"You ask for more than your rate allows. There is room again in {wait_s:.1f} s.",
            code="rate_limited",
            retry_after_s=wait_s,
        )
