# SPDX-License-Identifier: Apache-2.0
"""uvicorn's server with a graceful end: first unready, then closed, and what does not finish in time is told so."""

import asyncio
import logging
import os
import signal
import socket
from types import FrameType

import uvicorn
from fastapi import FastAPI

from fastapi_triton.app.frontend import TritonFrontend
from fastapi_triton.core import shutdown as drain
from fastapi_triton.core.settings import Settings
from fastapi_triton.core.shutdown import Drain, Phase
from fastapi_triton.serving import allocator, descriptors, listening
from fastapi_triton.serving.http_protocol import Protocol

logger = logging.getLogger(__name__)

_INTERVAL_S = 0.05
# How long those who are told that their work was stopped have to take the answer.
TELL_S = 2


class Server(uvicorn.Server):
    """Serves an app on `http_protocol.Protocol` until SIGINT or SIGTERM; a second one ends the process at once."""

    def __init__(self, app: FastAPI, *, host: str = "127.0.0.1", port: int = 8080) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host,
                port,
                http=Protocol,
                lifespan="on",
                log_config=None,
                access_log=False,
                proxy_headers=False,  # the app knows itself which proxies to believe
                timeout_graceful_shutdown=TELL_S,  # after our own waiting
            )
        )
        self._settings, self.drain = (
            (app.settings, app.drain) if isinstance(app, TritonFrontend) else (Settings(), Drain())
        )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal begins the end. The second is the end; what is below us notices, and goes too."""
        del frame
        if self.should_exit:
            signal.signal(sig, signal.SIG_DFL)
            os.kill(os.getpid(), sig)
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start; an app that knows nothing of a drain shares ours with its connections."""
        descriptors.raise_limit()
        allocator.return_large_blocks()
        if sockets is None and listening.is_every_address(self.config.host):
            sockets = [listening.listener(self.config.host, self.config.port)]  # uvicorn has `::` take IPv6 alone
        await super().startup(sockets)
        self.lifespan.state.setdefault(drain.STATE, self.drain)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, then do as uvicorn does."""
        self.drain.reach(Phase.UNREADY)
        if self._settings.shutdown_delay_s:
            logger.info("unready; new requests are taken for another %g s", self._settings.shutdown_delay_s)
            await asyncio.sleep(self._settings.shutdown_delay_s)
        self.drain.reach(Phase.CLOSED)
        for server in self.servers:
            server.close()
        state = self.server_state
        for connection in list(state.connections):
            connection.shutdown()
        logger.info("no new requests are taken; %d are running", len(state.tasks))
        if not await self._is_idle_within(self._settings.shutdown_grace_s):
            logger.warning("%d requests are stopped: they took longer than the grace", len(state.tasks))
            self.drain.reach(Phase.OVER)
            for task in list(state.tasks):
                task.cancel()
            await self._is_idle_within(TELL_S)
        await super().shutdown(sockets)

    async def _is_idle_within(self, limit_s: float) -> bool:
        """Whether all that was begun has come to its end, connections included."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + limit_s
        while self.server_state.tasks or self.server_state.connections:
            if loop.time() >= ends_at:
                return False
            await asyncio.sleep(_INTERVAL_S)
        return True
