# SPDX-License-Identifier: Apache-2.0
"""Serves the app below Ray's proxy, and shuts it down in phases, as `server.py` does without Ray."""

import asyncio

from fastapi import FastAPI
from starlette.types import Message, Receive, Scope, Send

from fastapi_triton.core.settings import Settings
from fastapi_triton.core.shutdown import Drain


class Ingress:
    """An ASGI app that keeps track of the running requests, so that the app can shut down in phases.

    It removes the header X-Request-ID from responses, since Ray's proxy adds the same one.
    """

    def __init__(self, app: FastAPI, *, settings: Settings, drain: Drain) -> None:
        self.app = app
        self._settings = settings
        self._drain = drain
        self._running: set[asyncio.Task[object]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def without_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [each for each in message.get("headers", ()) if each[0] != b"x-request-id"]
            await send(message)

        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("An ASGI app must run in an asyncio task.")
        self._running.add(task)
        try:
            await self.app(scope, receive, without_id)
        finally:
            self._running.discard(task)

    async def end(self) -> None:
        """Become unready, then reject new work, then stop requests that take longer than the grace period."""
        await self._drain.run(self._running, self._settings)
