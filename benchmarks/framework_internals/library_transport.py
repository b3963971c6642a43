# SPDX-License-Identifier: Apache-2.0
"""Exchanges with Triton by aiohttp instead of `triton/transport/`, with what costs aiohttp time switched off."""

import aiohttp

from fastapi_triton.triton.transport.connection import AnswerHead, Pieces
from fastapi_triton.triton.transport.pool import Connections, Running, alone

_UNWANTED = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


class AiohttpConnections(Connections):
    """`ask` by aiohttp. It has no circuit breaker, and does not read the answers of requests whose clients left."""

    _session: aiohttp.ClientSession | None = None

    async def ask(self, pieces: Pieces, *, timeout_s: float, running: Running = alone) -> tuple[AnswerHead, memoryview]:
        del running  # a model's process is not watched
        line, *headers = b"".join(pieces[:3]).decode().removesuffix("\r\n\r\n").split("\r\n")
        method, path, _ = line.split(" ")
        async with self._opened().request(
            method,
            f"http://{self.address.host}:{self.address.port}{path}",
            data=b"".join(pieces[3:]) or None,
            headers=dict(header.split(": ", 1) for header in headers),
            timeout=aiohttp.ClientTimeout(total=timeout_s),
        ) as response:
            body = await response.read()
        response_headers = [(name.lower(), value) for name, value in response.raw_headers]
        return AnswerHead(response.status, response_headers), memoryview(body)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=_UNWANTED,
            )
        return self._session
