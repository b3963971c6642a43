# SPDX-License-Identifier: Apache-2.0
"""Requests during shutdown: new work is rejected, and work that the shutdown stops gets an error response."""

import asyncio

from starlette.types import ASGIApp, Receive, Scope, Send

from fastapi_triton.core import problem_details
from fastapi_triton.core.errors import FastAPITritonError, ShuttingDownError
from fastapi_triton.core.paths import V2, is_below, route_path
from fastapi_triton.core.request_record import current_record
from fastapi_triton.core.shutdown import Drain, Phase


class ShutdownMiddleware:
    """Responds with a `ShuttingDownError`. `/v2` does so itself, in Triton's format."""

    def __init__(self, app: ASGIApp, drain: Drain) -> None:
        self.app = app
        self._drain = drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._drain.phase >= Phase.CLOSED and scope["type"] == "http" and _starts_work(scope):
            try:
                self._drain.require_open()
            except ShuttingDownError as error:
                await problem_details.error_response(scope, error)(scope, receive, send)
                return
        try:
            await self.app(scope, receive, send)
        except asyncio.CancelledError as cancelled:
            reason = self._drain.explain(cancelled)
            if not isinstance(reason, FastAPITritonError) or current_record.get().has_response_begun:
                raise reason from None
            await problem_details.error_response(scope, reason)(scope, receive, send)


def _starts_work(scope: Scope) -> bool:
    return scope["method"] == "POST" and not is_below(route_path(scope), V2)
