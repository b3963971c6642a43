# SPDX-License-Identifier: Apache-2.0
"""Clients that send requests all the time and record every outcome; a proxy that drops and delays."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2

from support.serving import Server

# The codes that a client may get while something is broken, from docs/reference/errors.md.
DOCUMENTED = {
    "triton_unavailable", "triton_connection_lost", "model_process_died", "model_not_ready", "contract_mismatch",
    "overloaded", "queue_full", "inference_failed", "deadline_exceeded", "deadline_out_of_reach", "cancelled",
    "shutting_down",
}  # fmt: skip
NUM_CALLERS = 8
LOST = "no response"


@dataclass(slots=True)
class Load:
    """Some clients send requests to the plain model, some to the model that sends events."""

    url: str
    outcomes: Counter[str] = field(default_factory=Counter)
    is_finished: bool = False

    async def send_plain_requests(self) -> None:
        async with httpx2.AsyncClient(base_url=self.url, timeout=60) as client:
            while not self.is_finished:
                with self._kept():
                    response = await client.post("/echo", json={"text": "a" * 100})
                    await self.take(response.status_code, response.json())

    async def send_stream_requests(self) -> None:
        async with httpx2.AsyncClient(base_url=self.url, timeout=60) as client:
            while not self.is_finished:
                with self._kept():
                    response = await client.post(
                        "/count", json={"text": "echo a", "num_steps": 3}, headers={"Accept": "text/event-stream"}
                    )
                    if response.status_code != 200:
                        await self.take(response.status_code, response.json())
                    elif "event: completed" in response.text:
                        await self.take(200, {})
                    else:
                        assert "event: error" in response.text, f"a stream without an end: {response.text}"
                        await self.take(502, {"code": response.text.partition('"code":"')[2].partition('"')[0]})

    async def take(self, status: int, body: Any) -> None:
        self.outcomes["answered" if status == 200 else body["code"]] += 1
        if status != 200:
            await asyncio.sleep(0.02)  # slower after errors, so that not all requests are rejected

    @contextlib.contextmanager
    def _kept(self) -> Any:
        try:
            yield
        except httpx2.TransportError:
            self.outcomes[LOST] += 1

    async def until(self, count: int) -> None:
        """Return when this many more requests have succeeded."""
        wanted = self.outcomes["answered"] + count
        while self.outcomes["answered"] < wanted:  # noqa: ASYNC110 (there is no event to await)
            await asyncio.sleep(0.01)

    def require_documented(self, *, lost: int = 0) -> None:
        """Assert that each request got a result or a documented error, with at most this many exceptions."""
        assert set(self.outcomes) <= {"answered", LOST} | DOCUMENTED, self.outcomes
        assert self.outcomes[LOST] <= lost, self.outcomes


@asynccontextmanager
async def load(url: str) -> AsyncIterator[Load]:
    """Run clients while the context is open. It exits when all of them have their last response."""
    each = Load(url)
    async with asyncio.TaskGroup() as callers:
        for number in range(NUM_CALLERS):
            callers.create_task(each.send_stream_requests() if number % 2 else each.send_plain_requests())
        try:
            await each.until(20)
            yield each
        finally:
            each.is_finished = True


async def inner(server: Server) -> dict[str, int]:
    """The resources that the process reports for itself."""
    async with httpx2.AsyncClient(timeout=30) as client:
        counts: dict[str, int] = (await client.get(f"{server.url}/inner")).json()
        return counts


async def until_ready(server: Server) -> None:
    async with httpx2.AsyncClient(base_url=server.url, timeout=30) as client:
        while (await client.get("/health/ready")).status_code != 200:  # noqa: ASYNC110 (there is no event to await)
            await asyncio.sleep(0.05)


async def until_settled(server: Server, *, num_fds: int, rss: int) -> None:
    """Return when no request runs, and no more resources are held than before."""
    while True:
        now = await inner(server)
        # The pool keeps as many connections to Triton as there were requests at once.
        if now["in_flight"] == 0 and now["num_fds"] <= num_fds + 20 and now["rss"] <= rss + 40_000_000:
            return
        await asyncio.sleep(0.1)


@dataclass(slots=True)
class Proxy:
    """Forwards a port. `is_open = False` refuses and drops connections; `delay_s` delays every chunk."""

    target: tuple[str, int]
    port: int = 0
    is_open: bool = True
    delay_s: float = 0.0
    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.is_open:
            writer.transport.abort()
            return
        there, onward = await asyncio.open_connection(*self.target)
        self.writers |= {writer, onward}
        try:
            await asyncio.gather(self._pass(reader, onward), self._pass(there, writer))
        finally:
            for each in (writer, onward):
                self.writers.discard(each)
                each.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                writer.write(data)
                await writer.drain()
        writer.close()

    def drop(self) -> None:
        """Break every connection."""
        for writer in list(self.writers):
            writer.transport.abort()


@asynccontextmanager
async def proxy(address: str) -> AsyncIterator[Proxy]:
    host, _, port = address.partition(":")
    each = Proxy((host, int(port)))
    server = await asyncio.start_server(each.connected, "127.0.0.1", 0)
    each.port = server.sockets[0].getsockname()[1]
    try:
        yield each
    finally:
        server.close()
        each.drop()
