# SPDX-License-Identifier: Apache-2.0
"""The app below Ray's proxy: what `server.py` is to it on one machine, as far as that is not Ray's."""

import asyncio

from fastapi import FastAPI
from starlette.types import Message, Receive, Scope, Send

from fastapi_triton.core.settings import Settings
from fastapi_triton.core.shutdown import Drain


class Ingress:
    """Knows which requests run, so that the app can end in phases, as without Ray.

    It leaves the header X-Request-ID to Ray's proxy, which adds the same one to every answer.
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
            raise RuntimeError("an ASGI app is run by a task")
        self._running.add(task)
        try:
            await self.app(scope, receive, without_id)
        finally:
            self._running.discard(task)

    async def end(self) -> None:
        """Be unready, then take no new work, then stop what takes longer than the grace."""
        await self._drain.run(self._running, self._settings)
