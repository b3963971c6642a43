# SPDX-License-Identifier: Apache-2.0
"""A connection of our HTTP protocol without a socket: the test chooses the chunks that arrive."""

import asyncio
from collections.abc import Callable, Iterable

import httptools
from starlette.types import ASGIApp
from uvicorn import Config
from uvicorn.server import ServerState

from fastapi_triton.core import settings
from fastapi_triton.core.settings import Settings
from fastapi_triton.serving.http_protocol import Protocol
from support.scripted_app import LIMITS


class MemoryTransport(asyncio.Transport):
    """Records the written bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.is_closed = self.is_paused = False
        self.on_write: Callable[[], None] = lambda: None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data
        self.on_write()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def close(self) -> None:
        self.is_closed = True
        self.on_write()

    abort = write_eof = close

    def can_write_eof(self) -> bool:
        return True

    def is_closing(self) -> bool:
        return self.is_closed

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False


class Responses:
    """Parses a stream of responses; `each` has their status and body."""

    def __init__(self) -> None:
        self.each: list[tuple[int, bytes]] = []
        self._body = b""
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        self._parser.feed_data(data)
        return self.each

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self.each.append((self._parser.get_status_code(), self._body))
        self._body = b""


class MemoryConnection:
    """One connection to an app. An app that `is_ours` makes its own error responses."""

    def __init__(self, app: ASGIApp, *, limits: Settings = LIMITS, is_ours: bool = False) -> None:
        config = Config(app, http=Protocol, log_config=None, access_log=False)
        config.load()
        self.transport = MemoryTransport()
        state = {settings.STATE: limits} if is_ours else {}
        self._responses = Responses()
        self.protocol = Protocol(config, ServerState(), state, asyncio.get_running_loop())
        self.protocol.connection_made(self.transport)

    def feed(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.protocol.data_received(piece)

    async def responses(self, num: int) -> list[tuple[int, bytes]]:
        """Wait for this many responses; return the status and body of each. Fewer if the connection is closed first."""
        grown = asyncio.Event()
        self.transport.on_write = grown.set
        while True:
            written, self.transport.written = bytes(self.transport.written), bytearray()
            responses = self._responses.feed(written)
            if len(responses) >= num or self.transport.is_closed:
                return list(responses)
            await grown.wait()
            grown.clear()

    def close(self) -> None:
        """Lose the connection, as if the client had closed it."""
        self.protocol.connection_lost(None)
