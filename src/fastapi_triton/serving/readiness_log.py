# SPDX-License-Identifier: Apache-2.0
"""Prints the URL when the served app is ready for the first time, and logs when it becomes unready or ready again."""

import logging
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager

import orjson
from fastapi import FastAPI

from fastapi_triton.app.frontend import TritonFrontend
from fastapi_triton.core.background import BackgroundTask
from fastapi_triton.serving.server import Server

logger = logging.getLogger(__name__)

# A function that gets whether the app is ready, and the body of its `/health/ready`.
OnReport = Callable[[bool, str], None]


class ReadinessLog:
    """Prints and logs changes of readiness. `greeting` is printed when the app is ready for the first time."""

    def __init__(self, greeting: str) -> None:
        self._greeting = greeting
        self._was_ready: bool | None = None  # None: the app has never been ready

    def report(self, is_ready: bool, body: str) -> None:  # as `OnReport`
        """Print or log a report that changes the readiness."""
        before = self._was_ready
        if is_ready or before is not None:
            self._was_ready = is_ready
        if is_ready and before is None:
            sys.stdout.write(self._greeting)
            sys.stdout.flush()
        elif is_ready and before is False:
            logger.info("the app is ready again")
        elif not is_ready and before:
            logger.warning("the app is no longer ready: %s", body)


@asynccontextmanager
async def reported(app: FastAPI, server: Server, on_report: OnReport) -> AsyncGenerator[None, None]:
    """Report the readiness of the served app for the duration of the block.

    An app that is not a `TritonFrontend` is ready when the server listens.
    """
    task = BackgroundTask("readiness log", consequence="Changes of readiness are not logged.")

    async def report() -> None:
        await server.is_listening.wait()
        if not isinstance(app, TritonFrontend):
            on_report(True, "")
            return
        async with aclosing(app.readiness.reports()) as reports:
            async for found in reports:
                on_report(found.is_ready, orjson.dumps(found.body).decode())

    async with task.repeating(report):
        yield
