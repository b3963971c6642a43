# SPDX-License-Identifier: Apache-2.0
"""Server-sent events as an answer: the first decides whether it begins at all, silence is filled, leaving ends it."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass

from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event
from starlette.types import Message, Receive, Scope, Send

from fastapi_triton import drain, problems
from fastapi_triton.disconnects import unless_caller_leaves
from fastapi_triton.errors import CallerLeftError, FastAPITritonError
from fastapi_triton.observation import note

logger = logging.getLogger(__name__)

# Proxies close a connection on which nothing comes, often after 60 s.
PING_INTERVAL_S = 15.0
# A caller that is connected but takes nothing for so long has left, in effect; its work and place go to others.
STALLED_S = 60.0

_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "Vary": "Accept"}


@dataclass(frozen=True, slots=True)
class Event:
    """One event; `data` is JSON."""

    name: str
    data: str


def _problem(error: FastAPITritonError) -> str:
    return problems.body(error).decode()


# Begins an answer before there is anything to tell; a caller reads a comment, and no event.
BEGIN = Event("", "")


class EventsResponse(EventSourceResponse):
    """Passes events on as they come.

    An error before the first event is raised, and so becomes an ordinary answer; a later one is the last event,
    `error`, with what `describe_error` makes of it. When the caller leaves, the generator is cancelled; with
    `keeps_running` it goes on to its end, unheard.
    """

    def __init__(
        self,
        events: AsyncGenerator[Event, None],
        *,
        describe_error: Callable[[FastAPITritonError], str] = _problem,
        keeps_running: bool = False,
    ) -> None:
        super().__init__((), headers=_HEADERS)  # the body is written by `__call__`, since it must see the caller leave
        self._events = events
        self._describe_error = describe_error
        self._keeps_running = keeps_running

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        line = _Line(send)
        with suppress(CallerLeftError):  # has been logged, and there is nobody to tell
            try:
                if self._keeps_running:
                    await self._pass_on(line)
                else:
                    await unless_caller_leaves(receive, self._pass_on(line))
            except asyncio.CancelledError as cancelled:
                reason = drain.of(scope).explain(cancelled)
                if not isinstance(reason, FastAPITritonError) or not line.has_begun:
                    raise reason from None
                await line.write(_encode(Event("error", self._describe_error(reason))))
            # Out here, since a server calls the end of an answer a disconnect too.
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _pass_on(self, line: "_Line") -> None:
        async with aclosing(self._events) as events:
            first = await anext(events)
            await line.send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            pinging = asyncio.create_task(line.keep_alive())
            try:
                await line.write(_encode(first))
                async for event in events:
                    await line.write(_encode(event))
            except CallerLeftError:
                if self._keeps_running:
                    async for _ in events:
                        pass
                raise
            except FastAPITritonError as error:
                note(error)
                await line.write(_encode(Event("error", self._describe_error(error))))
            finally:
                pinging.cancel()


class _Line:
    """The way to the caller, which events and pings share."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._last_sent = self._loop.time()
        self._turn = asyncio.Lock()
        self.has_begun = False

    async def send(self, message: Message) -> None:
        """Send it, when the caller has taken what came before.

        Raises:
            CallerLeftError: it takes nothing any more.
        """
        async with self._turn:
            try:
                async with asyncio.timeout(STALLED_S):
                    self.has_begun = True
                    await self._send(message)
            except TimeoutError:
                logger.info("the caller has taken nothing for %g s; its work is stopped", STALLED_S)
                raise CallerLeftError("The caller stopped reading.") from None
            self._last_sent = self._loop.time()

    async def write(self, data: bytes) -> None:
        await self.send({"type": "http.response.body", "body": data, "more_body": True})

    async def keep_alive(self) -> None:
        """Write a comment whenever there was silence for too long."""
        while True:
            silence_s = self._loop.time() - self._last_sent
            if silence_s >= PING_INTERVAL_S:
                with suppress(CallerLeftError):  # the next event meets it as well
                    await self.write(KEEPALIVE_COMMENT)
            else:
                await asyncio.sleep(PING_INTERVAL_S - silence_s)


def _encode(event: Event) -> bytes:
    if event is BEGIN:
        return KEEPALIVE_COMMENT
    return format_sse_event(event=event.name, data_str=event.data)
