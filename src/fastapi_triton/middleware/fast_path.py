# SPDX-License-Identifier: Apache-2.0
"""Declared endpoints by their path, in one look, and `/v2`; all else goes on to the app's router, which tries one by
one."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from fastapi_triton.core.asgi import route_path
from fastapi_triton.core.shutdown import Drain, Phase

# Gives the answer to a request; it is a step less for each than an app that sends it itself.
Responder = Callable[[Scope, Receive], Awaitable[ASGIApp]]


class DeclaredRoutes:
    """An ASGI app in front of another. The router knows the endpoints too: for other methods, and for `/docs`."""

    def __init__(
        self,
        endpoints: Mapping[str, tuple[BaseRoute, Responder]],
        *,
        otherwise: ASGIApp,
        drain: Drain,
        v2: ASGIApp | None = None,
    ) -> None:
        self._endpoints = endpoints
        self._otherwise = otherwise
        self._drain = drain
        self._v2 = v2

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = None
        if scope["type"] == "http":
            path = route_path(scope) if scope.get("root_path") else scope["path"]
            if scope["method"] == "POST":
                found = self._endpoints.get(path)
            if found is None and self._v2 is not None and path.startswith("/v2") and path[3:4] in ("", "/"):
                await self._v2(scope, receive, send)
                return
        try:
            if self._drain.phase >= Phase.CLOSED and scope["type"] == "http" and _is_work(scope):
                self._drain.require_open()
            if found is None:
                await self._otherwise(scope, receive, send)
                return
            scope["route"], respond = found  # as a router tells it to the middleware around
            answer = await respond(scope, receive)
            await answer(scope, receive, send)
        except asyncio.CancelledError as cancelled:
            raise self._drain.explain(cancelled) from None


def _is_work(scope: Scope) -> bool:
    """Whether it asks for something to be begun. (`/v2` refuses in a form of its own.)"""
    return scope["method"] == "POST" and not route_path(scope).startswith("/v2")
