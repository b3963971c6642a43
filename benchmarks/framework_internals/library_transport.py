# SPDX-License-Identifier: Apache-2.0
"""Requests to Triton with aiohttp instead of `triton/transport/`. Features that cost aiohttp time are off."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast

import aiohttp
from starlette.types import Receive

from fastapi_triton.triton.transport.connection import Connection, Pieces, ResponseHead
from fastapi_triton.triton.transport.pool import ConnectionPool

_UNWANTED = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


@dataclass(eq=False, slots=True)
class _Exchange:
    """The part of `Connection` that complete responses need."""

    session: aiohttp.ClientSession
    base_url: str
    timeout_s: float | None

    async def request(self, pieces: Pieces) -> tuple[ResponseHead, memoryview]:
        line, *headers = b"".join(pieces[:3]).decode().removesuffix("\r\n\r\n").split("\r\n")
        method, path, _ = line.split(" ")
        async with self.session.request(
            method,
            self.base_url + path,
            data=b"".join(pieces[3:]) or None,
            headers=dict(header.split(": ", 1) for header in headers),
            timeout=aiohttp.ClientTimeout(total=self.timeout_s),
        ) as response:
            body = await response.read()
        response_headers = [(name.lower(), value) for name, value in response.raw_headers]
        return ResponseHead(response.status, response_headers), memoryview(body)


class AiohttpPool(ConnectionPool):
    """A pool without a circuit breaker, which does not read responses for disconnected clients."""

    _session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def exchange(
        self, *, timeout_s: float | None = None, is_cancelled_by_closing: bool = False, receive: Receive | None = None
    ) -> AsyncIterator[Connection]:
        del is_cancelled_by_closing, receive
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=_UNWANTED,
            )
        exchange = _Exchange(self._session, f"http://{self.address.host}:{self.address.port}", timeout_s)
        yield cast(Connection, exchange)
