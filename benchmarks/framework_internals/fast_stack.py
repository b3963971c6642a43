# SPDX-License-Identifier: Apache-2.0
"""Error handling as the frontend once had it, built only after an error.

It had come to differ from FastAPI's: the trace of a 500 lacked the exception's class.
"""

from collections.abc import Callable
from functools import partial

from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from fastapi_triton import TritonFrontend
from fastapi_triton.core.request_record import current_record


class OnErrorMiddleware:
    """Passes an error to the middleware that `handling` makes around an app that raises it."""

    def __init__(self, app: ASGIApp, handling: Callable[[ASGIApp], ASGIApp]) -> None:
        self.app = app
        self._handling = handling

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.app(scope, receive, send)
        except Exception as error:
            if scope["type"] != "http" or current_record.get().has_response_begun:
                raise
            await self._handling(partial(_fail, error))(scope, receive, send)


async def _fail(error: Exception, _scope: Scope, _receive: Receive, _send: Send) -> None:
    raise error


class FastStackFrontend(TritonFrontend):
    """A frontend that builds its own middleware stack."""

    def build_middleware_stack(self) -> ASGIApp:
        handlers = dict(self.exception_handlers)
        on_bug = handlers.pop(Exception, None)
        exceptions = partial(ExceptionMiddleware, handlers=handlers, debug=self.debug)
        app: ASGIApp = OnErrorMiddleware(AsyncExitStackMiddleware(self.router), exceptions)
        for layer, arguments, options in reversed(self.user_middleware):
            app = layer(app, *arguments, **options)
        return OnErrorMiddleware(app, partial(ServerErrorMiddleware, handler=on_bug, debug=self.debug))
