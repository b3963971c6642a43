# SPDX-License-Identifier: Apache-2.0
"""A client that writes raw bytes, for requests that no HTTP client would send."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2

from support.scripted_triton import Upstream


class RawConnection:
    """A client that writes raw bytes."""

    def __init__(self, upstream: Upstream) -> None:
        self.reader = upstream.reader
        self._upstream = upstream
        self.send = upstream.send
        self.close = upstream.writer.close
        self.socket: socket.socket = upstream.writer.get_extra_info("socket")

    async def response(self) -> tuple[int, bytes]:
        """The status and body of a response with a Content-Length."""
        head = await self._upstream.head()
        length = int(head.lower().partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0])
        return int(head.split(b" ", 2)[1]), await self._upstream.reader.readexactly(length)

    async def rest(self) -> bytes:
        """Everything that arrives until the frontend closes the connection."""
        return await self._upstream.closed()


@asynccontextmanager
async def raw_connection_to(caller: httpx2.AsyncClient) -> AsyncIterator[RawConnection]:
    reader, writer = await asyncio.open_connection(caller.base_url.host, caller.base_url.port)
    try:
        yield RawConnection(Upstream(reader, writer))
    finally:
        writer.close()
