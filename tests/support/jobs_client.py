# SPDX-License-Identifier: Apache-2.0
"""A client of an app with background jobs."""

from collections.abc import Callable
from typing import Any

import httpx2

from fastapi_triton.core.context import Caller, current_caller
from support.received_events import ReceivedEvent, events_of
from support.scribble_app import PATH

ASYNC = {"Prefer": "respond-async"}


class Client:
    """A client that creates and follows jobs."""

    def __init__(self, http: httpx2.AsyncClient, body: Callable[..., dict[str, Any]]) -> None:
        self.http = http
        self.body = body
        self.caller = "key:alice"

    async def post(self, headers: dict[str, str] | None = None, **changes: Any) -> httpx2.Response:
        """A request for a job."""
        return await self.http.post(PATH, json=self.body(**changes), headers={**ASYNC, **(headers or {})})

    async def accepted(self, headers: dict[str, str] | None = None, **changes: Any) -> str:
        """The path of a new job."""
        response = await self.post(headers, **changes)
        assert response.status_code == 202, response.text
        return response.headers["location"]

    async def get(self, path: str, accept: str = "*/*") -> httpx2.Response:
        return await self.http.get(path, headers={"Accept": accept})

    async def events(self, path: str) -> list[ReceivedEvent]:
        """All events of a job, until it is finished."""
        async with self.http.stream("GET", f"{path}/events") as response:
            assert response.status_code == 200
            return [event async for event in events_of(response)]

    async def until(self, path: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait until this is true of the job, and return it."""
        job: dict[str, Any] = (await self.get(path)).json()
        while not holds(job):
            job = (await self.get(path)).json()
        return job

    async def finished(self, path: str) -> dict[str, Any]:
        """Wait until the job is finished, and return it."""
        await self.events(path)
        job: dict[str, Any] = (await self.get(path)).json()
        return job


class WithCaller:
    """Runs the app as the client's `caller`."""

    def __init__(self, app: Any, client: Client) -> None:
        self.app = app
        self.client = client

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        current_caller.set(Caller(self.client.caller))
        await self.app(scope, receive, send)
