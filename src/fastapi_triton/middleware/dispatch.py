# SPDX-License-Identifier: Apache-2.0
"""Calls the app's endpoints by one lookup of the path. The router would try one route after another."""

from collections.abc import Mapping
from typing import NamedTuple

from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from fastapi_triton.core.paths import V2, is_below, route_path
from fastapi_triton.core.request_record import current_record

_ERROR = "fastapi_triton.dispatch_error"


class DirectRoute(NamedTuple):
    """A route of the router, and the app that it would call."""

    route: BaseRoute
    endpoint: ASGIApp


class DispatchMiddleware:
    """The innermost middleware: it calls endpoints, and passes all other requests to FastAPI's router.

    It passes an endpoint's error on, too: the router finds the same route, and its endpoint raises the error again
    (`raise_dispatch_error`). So the exception handlers of the FastAPI app apply.
    """

    def __init__(self, app: ASGIApp, *, endpoints: Mapping[str, DirectRoute], v2: ASGIApp | None) -> None:
        self.app = app
        self._endpoints = endpoints
        self._v2 = v2

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = route_path(scope) if scope.get("root_path") else scope["path"]
        found = self._endpoints.get(path) if scope["method"] == "POST" else None
        if found is not None:
            scope["route"] = found.route  # for the outer middleware
            try:
                await found.endpoint(scope, receive, send)
            except Exception as error:
                if current_record.get().has_response_begun:
                    raise
                scope[_ERROR] = error
                await self.app(scope, receive, send)
        elif self._v2 is not None and is_below(path, V2):
            await self._v2(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def raise_dispatch_error(scope: Scope) -> None:
    """Raise the error that the endpoint raised when `DispatchMiddleware` called it."""
    if (error := scope.pop(_ERROR, None)) is not None:
        raise error
