# SPDX-License-Identifier: Apache-2.0
"""An app on a real socket in the test's event loop. Clients can disconnect, which httpx's ASGI transport cannot do."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import uvicorn
from fastapi import FastAPI

from fastapi_triton.serving.http_protocol import Protocol


@asynccontextmanager
async def listening(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the app, which listens already."""
    server = uvicorn.Server(uvicorn.Config(app, http=Protocol, log_config=None, lifespan="on"))
    listener = socket.create_server(("127.0.0.1", 0))  # connections are accepted from now on, and wait for the server
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=60) as client:
            yield client
    finally:
        server.should_exit = True
        await serving
