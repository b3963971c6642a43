# SPDX-License-Identifier: Apache-2.0
"""Runs HEAD as GET without the body, since FastAPI's own routes accept only GET."""

from collections.abc import Awaitable

from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadMiddleware:
    """Calls the GET route if the route does not accept HEAD itself."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http" or scope["method"] != "HEAD" or _accepts_head(scope):
            return self.app(scope, receive, send)
        return self._get(scope, receive, send)

    async def _get(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_ended = False

        async def send_head(message: Message) -> None:
            """Ends the response after its head: the stream of a GET may never end."""
            nonlocal has_ended
            if message["type"] != "http.response.body":
                await send(message)
            elif not has_ended:
                has_ended = True
                await send({"type": "http.response.body", "body": b"", "more_body": False})

        # A copy, since the server reads its own scope.
        inner = {**scope, "method": "GET"}
        try:
            await self.app(inner, receive, send_head)
        finally:
            if "route" in inner:  # for the outer middleware
                scope["route"] = inner["route"]


def _accepts_head(scope: Scope) -> bool:
    return any(route.matches(scope)[0] is Match.FULL for route in scope["app"].router.routes)
