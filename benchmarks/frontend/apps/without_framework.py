# SPDX-License-Identifier: Apache-2.0
"""Layer 1 of `layers.py` without ASGI and uvicorn: a protocol on uvloop that accepts valid requests only."""

import asyncio
import sys

import httptools
import uvloop

from benchmarks.frontend.apps.layers import call_triton, read, written


class Caller(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # uvloop's is not a subclass
        self._parser = httptools.HttpRequestParser(self)
        self._tasks: set[asyncio.Task[None]] = set()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._pieces: list[bytes] = []

    def on_body(self, piece: bytes) -> None:
        self._pieces.append(piece)

    def on_message_complete(self) -> None:
        task = asyncio.get_running_loop().create_task(self._answer(b"".join(self._pieces)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, body: bytes) -> None:
        response = written(await call_triton(read(body)))
        self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(response), response))


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Caller, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
