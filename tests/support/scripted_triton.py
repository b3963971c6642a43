# SPDX-License-Identifier: Apache-2.0
"""A port with scripted responses that records every byte that it receives."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

INFER = "/v2/models/echo/infer"
STREAM = "/v2/models/echo/generate_stream"
# A body that the frontend forwards to every model, without reading its config.
REQUEST = b'{"inputs":[]}'


@dataclass(slots=True)
class Upstream:
    """One connection from the frontend, as Triton sees it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def head(self) -> bytes:
        return await self.reader.readuntil(b"\r\n\r\n")

    async def request(self) -> tuple[bytes, bytes]:
        """Read a whole request: its head and its body. A chunked body stays chunked."""
        head = await self.head()
        lowered = head.lower()
        if b"transfer-encoding: chunked" in lowered:
            return head, await self.reader.readuntil(b"0\r\n\r\n")
        length = int(lowered.partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0] or b"0")
        return head, await self.reader.readexactly(length)

    async def respond(self, body: bytes = b"{}", *, status: bytes = b"200 OK", headers: bytes = b"") -> None:
        await self.send(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n%s\r\n" % (status, len(body), headers) + body)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def closed(self) -> bytes:
        """Everything that arrived until the frontend closed the connection."""
        try:
            return await self.reader.read()
        except ConnectionResetError:
            return b""


Script = Callable[[Upstream], Awaitable[None]]


@dataclass(slots=True)
class ScriptedTriton:
    """Runs its script for every connection. By default it responds with `{}` and keeps the connection open."""

    url: str = ""
    script: Script | None = None
    num_connections: int = 0
    requests: list[tuple[bytes, bytes]] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        self.writers.append(writer)
        try:
            await (self.script or self.echo_for_ever)(Upstream(reader, writer))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the frontend closed the connection, or the test ended
        except Exception as failure:
            self.failures.append(failure)
            raise
        finally:
            writer.close()

    async def echo_for_ever(self, upstream: Upstream) -> None:
        while True:
            self.requests.append(await upstream.request())
            await upstream.respond()


@asynccontextmanager
async def scripted_triton(tls: ssl.SSLContext | None = None) -> AsyncIterator[ScriptedTriton]:
    triton = ScriptedTriton()
    server = await asyncio.start_server(triton.serve, "127.0.0.1", 0, limit=2**26, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    triton.url = f"https://localhost:{port}" if tls else f"http://127.0.0.1:{port}"
    yield triton
    server.close()
    for writer in triton.writers:
        writer.close()
    await server.wait_closed()
    assert not triton.failures
