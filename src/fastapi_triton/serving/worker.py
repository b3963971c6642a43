# SPDX-License-Identifier: Apache-2.0
"""One worker process of `supervisor.py`: `python -m fastapi_triton.serving.worker FD APP REPOSITORY`.

The supervisor starts it with a listening socket, and with another socket as its standard input. The worker reports its
readiness to the latter. When that socket closes, the supervisor has ended, and the worker ends as on SIGTERM.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Sequence

import orjson
from fastapi import FastAPI

from fastapi_triton.app.loader import AppNotFoundError, load_app
from fastapi_triton.core.settings import Settings
from fastapi_triton.observability import logging_config
from fastapi_triton.serving.readiness_log import reported
from fastapi_triton.serving.server import Server

# The most characters of a readiness report, which the supervisor may log.
MAX_REPORT = 10_000


async def _serve(app: FastAPI, server: Server, listener: socket.socket) -> None:
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), _on_supervisor_end)
    async with reported(app, server, _report):
        await server.serve(sockets=[listener])


def _report(is_ready: bool, body: str) -> None:  # as `OnReport`
    with contextlib.suppress(OSError):  # the supervisor has ended
        os.write(sys.stdin.fileno(), orjson.dumps([is_ready, body[:MAX_REPORT]]) + b"\n")


def _on_supervisor_end() -> None:
    asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
    os.kill(os.getpid(), signal.SIGTERM)


def main(arguments: Sequence[str]) -> None:
    """Serve until SIGTERM. The arguments: the socket's descriptor; the app's name or ""; "bundled" or ""."""
    descriptor, app_name, repository = arguments
    logging_config.configure(Settings())
    try:
        app = load_app(app_name or None, is_bundled_repository=repository == "bundled")
    except AppNotFoundError as error:
        sys.exit(str(error))
    server = Server(app)
    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(_serve(app, server, socket.socket(fileno=int(descriptor))))


if __name__ == "__main__":
    main(sys.argv[1:])
