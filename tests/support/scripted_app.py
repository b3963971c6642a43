# SPDX-License-Identifier: Apache-2.0
"""An ASGI app on our HTTP protocol on a real socket, and clients that write raw bytes."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn import Config, Server

from fastapi_triton.core import settings
from fastapi_triton.core import shutdown as drains
from fastapi_triton.core.settings import Settings
from fastapi_triton.serving.http_protocol import Protocol
from support.raw_connection import RawConnection
from support.scripted_triton import Upstream

Talk = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(slots=True)
class ScriptedApp:
    """An ASGI app that the test controls. It shares limits with its server, as our app does."""

    limits: Settings
    talk: Talk
    drain: drains.Drain = field(default_factory=drains.Drain)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            scope["state"].update({settings.STATE: self.limits, drains.STATE: self.drain})
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await self.talk(scope, receive, send)


async def whole(receive: Receive) -> bytes:
    """Read the body of a request."""
    pieces, more_body = [], True
    while more_body:
        message = await receive()
        assert message["type"] == "http.request"
        pieces.append(message["body"])
        more_body = message["more_body"]
    return b"".join(pieces)


async def respond(send: Send, body: bytes, *headers: tuple[bytes, bytes], status: int = 200) -> None:
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [length, *headers]})
    await send({"type": "http.response.body", "body": body})


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    await respond(send, scope["path"].encode() + b" " + await whole(receive))


@dataclass(slots=True)
class Running:
    """A server and its clients."""

    server: Server
    port: int
    stack: AsyncExitStack

    async def wire(self) -> RawConnection:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.stack.callback(writer.close)
        return RawConnection(Upstream(reader, writer))

    @property
    def num_connections(self) -> int:
        return len(self.server.server_state.connections)


@asynccontextmanager
async def running(app: ASGIApp) -> AsyncIterator[Running]:
    server = Server(
        Config(app, http=Protocol, log_config=None, lifespan="on", access_log=False, timeout_graceful_shutdown=5)
    )
    listener = socket.create_server(("127.0.0.1", 0))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        async with AsyncExitStack() as stack:
            yield Running(server, listener.getsockname()[1], stack)
    finally:
        server.should_exit = True
        await serving


LIMITS = Settings(head_timeout_s=60, body_pause_timeout_s=60, body_timeout_s=60, idle_timeout_s=60, max_connections=100)
