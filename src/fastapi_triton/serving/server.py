# SPDX-License-Identifier: Apache-2.0
"""uvicorn's server with a graceful shutdown: first unready, then closed; requests that take too long get an error."""

import asyncio
import os
import signal
import socket
from types import FrameType

import uvicorn
from fastapi import FastAPI

from fastapi_triton.app.frontend import TritonFrontend
from fastapi_triton.core import shutdown
from fastapi_triton.core.settings import Settings
from fastapi_triton.core.shutdown import Drain
from fastapi_triton.serving import listen_address, process_limits
from fastapi_triton.serving.http_protocol import Protocol


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
                proxy_headers=False,  # the app has its own list of trusted proxies
                timeout_graceful_shutdown=shutdown.ERROR_RESPONSE_S,  # after the app's own grace period
            )
        )
        self.is_listening = asyncio.Event()
        self._settings, self.drain = (
            (app.settings, app.drain) if isinstance(app, TritonFrontend) else (Settings(), Drain())
        )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal starts the shutdown. The second one ends this process, and with it its child processes."""
        del frame
        if self.should_exit:
            signal.signal(sig, signal.SIG_DFL)
            os.kill(os.getpid(), sig)
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start listening. The connections of an app that is not a `TritonFrontend` get this server's drain."""
        process_limits.raise_open_files()
        process_limits.return_large_blocks()
        if sockets is None and listen_address.is_every_address(self.config.host):
            sockets = [listen_address.listen(self.config.host, self.config.port)]  # uvicorn's `::` accepts only IPv6
        await super().startup(sockets)
        if self.started:
            self.is_listening.set()
        self.lifespan.state.setdefault(shutdown.STATE, self.drain)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, then shut down as uvicorn does."""
        state = self.server_state
        await self.drain.run(state.tasks, self._settings, connections=state.connections, close=self._close)
        await super().shutdown(sockets)

    def _close(self) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
