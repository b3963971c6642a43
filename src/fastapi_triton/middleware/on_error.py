# SPDX-License-Identifier: Apache-2.0
"""Starlette's error handling, which a request meets only with an error: what it prepares for one is a dozen calls of
every request."""

from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from fastapi_triton.core.request_record import current_observation


class OnErrorMiddleware:
    """Gives an error to what `handling` makes of an app that does nothing but raise it.

    It stands around or within `ObservingMiddleware`, by which it knows whether an answer has begun.
    """

    def __init__(self, app: ASGIApp, handling: Callable[[ASGIApp], ASGIApp]) -> None:
        self.app = app
        self._handling = handling

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.app(scope, receive, send)
        except Exception as error:
            if scope["type"] != "http" or current_observation.get().is_answered:
                raise
            await self._handling(_failing(error))(scope, receive, send)


def _failing(error: Exception) -> ASGIApp:
    async def fail(*_: object) -> None:
        raise error

    return fail
