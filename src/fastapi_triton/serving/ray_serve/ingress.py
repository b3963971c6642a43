# SPDX-License-Identifier: Apache-2.0
"""The app below Ray's proxy: what `server.py` is to it on one machine, as far as that is not Ray's."""

import asyncio
import contextlib
import logging

from fastapi import FastAPI
from starlette.types import Message, Receive, Scope, Send

from fastapi_triton.core.settings import Settings
from fastapi_triton.core.shutdown import Drain, Phase

logger = logging.getLogger(__name__)

# How long those who are told that their work was stopped have to take the answer.
TELL_S = 2.0


class Ingress:
    """Knows which requests run, so that the app can end in phases, as without Ray.

    It leaves the header X-Request-ID to Ray's proxy, which adds the same one to every answer.
    """

    def __init__(self, app: FastAPI, *, settings: Settings, drain: Drain) -> None:
        self.app = app
        self._settings = settings
        self._drain = drain
        self._running: set[asyncio.Task[object]] = set()
        self._is_idle = asyncio.Event()

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
            if not self._running:
                self._is_idle.set()

    async def end(self) -> None:
        """Be unready, then take no new work, then stop what takes longer than the grace."""
        self._drain.reach(Phase.UNREADY)
        await asyncio.sleep(self._settings.shutdown_delay_s)
        self._drain.reach(Phase.CLOSED)
        logger.info("no new requests are taken; %d are running", len(self._running))
        if await self._is_idle_within(self._settings.shutdown_grace_s):
            return
        logger.warning("%d requests are stopped: they took longer than the grace", len(self._running))
        self._drain.reach(Phase.OVER)
        for task in self._running:
            task.cancel()
        await self._is_idle_within(TELL_S)

    async def _is_idle_within(self, limit_s: float) -> bool:
        if self._running:
            self._is_idle.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limit_s):
                    await self._is_idle.wait()
        return not self._running
