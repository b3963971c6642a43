# SPDX-License-Identifier: Apache-2.0
"""A server for the duration of the command: the package's app and models, on an embedded Triton and free ports."""

import asyncio
import importlib
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import aiohttp
import uvicorn
from fastapi import FastAPI

from fastapi_triton.cli.generate.errors import NoServerError
from fastapi_triton.core import bundle
from fastapi_triton.core.settings import Settings
from fastapi_triton.embedded.installation import EmbeddedTritonError
from fastapi_triton.embedded.triton_process import EmbeddedTriton
from fastapi_triton.observability import logging_config

READINESS_INTERVAL_S = 0.2
# Importing PyTorch alone takes a minute from a slow disk.
START_TIMEOUT_S = 300.0


class _Server(uvicorn.Server):
    """A server that leaves signals to the command."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def own_server() -> AsyncIterator[str]:
    """Start a server, and yield its URL when it is ready. The server is stopped at the end of the block.

    Raises:
        NoServerError: this machine cannot run it, or it did not become ready in time.
    """
    logging_config.configure(Settings(log_level="error"))
    logging.getLogger("triton").setLevel(logging.CRITICAL)  # Triton logs errors on every machine without a GPU
    try:
        triton = EmbeddedTriton.prepare(bundle.model_repository())
    except EmbeddedTritonError as error:
        raise NoServerError(f"No server is running, and none can be started here. {error}") from None
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = _Server(uvicorn.Config(_app(triton.url), log_config=None, access_log=False))
    async with triton:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            await _until_ready(url)
            yield url
        finally:
            server.should_exit = True
            with suppress(asyncio.CancelledError):
                await asyncio.shield(serving)


def _app(triton_url: str) -> FastAPI:
    os.environ["TRITON_URL"] = triton_url
    for name in ("API_KEYS_FILE", "ALLOWED_HOSTS"):  # settings of another server; this one is only for this command
        os.environ.pop(f"FASTAPI_TRITON_{name}", None)
    sys.path.insert(0, str(bundle.app_folder()))
    app = importlib.import_module("main").app
    if not isinstance(app, FastAPI):
        raise TypeError("main.app is not a FastAPI app")
    return app


async def _until_ready(url: str) -> None:
    reason = "it does not respond"
    with suppress(TimeoutError):
        async with asyncio.timeout(START_TIMEOUT_S), aiohttp.ClientSession() as session:
            while True:
                with suppress(aiohttp.ClientError):
                    async with session.get(f"{url}/health/ready") as response:
                        if response.status == 200:
                            return
                        reason = await response.text()
                await asyncio.sleep(READINESS_INTERVAL_S)
    raise NoServerError(
        f"The started server is not ready after {START_TIMEOUT_S:.0f} s: {reason}\n"
        "For its log, run `fastapi-triton serve --embedded`."
    )
