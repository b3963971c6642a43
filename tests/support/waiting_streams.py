# SPDX-License-Identifier: Apache-2.0
"""Helpers for streams that wait: a model whose only slot is taken, and a client that records what an ASGI app sends."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from starlette.types import Message

from fastapi_triton import TritonFrontend
from fastapi_triton.core.shutdown import STATE, Drain
from fastapi_triton.endpoints.sse import EventsResponse
from support.scribble_app import MODEL


@asynccontextmanager
async def busy(app: TritonFrontend, model: str = MODEL) -> AsyncIterator[Callable[[], None]]:
    """Take the model's only slot until the returned function is called."""
    taken = asyncio.Event()
    free = asyncio.Event()

    async def take() -> None:
        with await app.services.admission.of(model).slot():
            taken.set()
            await free.wait()

    async with asyncio.TaskGroup() as group:
        group.create_task(take())
        await taken.wait()
        yield free.set
        free.set()


class Client:
    """Stands in for an ASGI server that may be slow to accept the head of a response."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.takes = asyncio.Event()
        self.takes.set()
        self.is_offered = asyncio.Event()

    async def receive(self) -> Message:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    async def send(self, message: Message) -> None:
        self.is_offered.set()
        await self.takes.wait()
        self.sent.append(message)

    async def get(self, response: EventsResponse) -> None:
        scope = {"type": "http", "method": "GET", "state": {STATE: Drain()}}
        await response(scope, self.receive, self.send)

    @property
    def types(self) -> list[str]:
        return [each["type"].rpartition(".")[2] for each in self.sent]

    @property
    def text(self) -> str:
        return b"".join(each.get("body", b"") for each in self.sent).decode()
