# SPDX-License-Identifier: Apache-2.0
"""Server-sent events as a response: early errors are plain responses, heartbeats fill silence, a disconnect cancels."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass

import orjson
from fastapi.sse import EventSourceResponse, format_sse_event
from starlette.types import Message, Receive, Scope, Send

from fastapi_triton.admission.fair_queue import QueueTicket
from fastapi_triton.core import problem_details, shutdown
from fastapi_triton.core.disconnect import cancel_on_disconnect
from fastapi_triton.core.errors import ClientDisconnectedError, FastAPITritonError
from fastapi_triton.core.request_record import record_error

logger = logging.getLogger(__name__)

# A client that is connected but reads nothing for this long counts as disconnected.
STALLED_S = 60.0
# The event of a request that waits in the frontend's queue or in the model's own.
QUEUED = "queued"

_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "Vary": "Accept"}


@dataclass(frozen=True, slots=True)
class Event:
    """One event; `data` is JSON. Without a name it is a comment, which clients skip, and `data` its text."""

    name: str
    data: str


PING = Event("", "ping")


def ping() -> Event:
    """The heartbeat of a stream that has nothing to report."""
    return PING


def queued_event(ticket: QueueTicket) -> Event:
    """The heartbeat of a stream whose request may have to wait: a `queued` event while it does."""
    position = ticket.position
    return PING if position is None else Event(QUEUED, orjson.dumps(position.as_json()).decode())


def queued_comment(ticket: QueueTicket) -> Event:
    """The same for clients that do not know the event: a comment."""
    position = ticket.position
    if position is None:
        return PING
    return Event("", " ".join((QUEUED, *(f"{name}={value}" for name, value in position.as_json().items()))))


class EventsResponse(EventSourceResponse):
    """Sends events as they come, and a heartbeat whenever nothing was sent for `heartbeat_interval_s`.

    The head goes out with the first event or heartbeat. An error before that is raised, and so becomes a
    plain response with a status of its own; a later one is the last event, `error`, with the data that `describe_error`
    gives. When the client disconnects, the generator is cancelled; with `keeps_running` it runs to its end, unheard.
    """

    def __init__(
        self,
        events: AsyncGenerator[Event, None],
        *,
        heartbeat_interval_s: float,
        heartbeat: Callable[[], Event] = ping,
        describe_error: Callable[[FastAPITritonError], str] = problem_details.event_data,
        keeps_running: bool = False,
    ) -> None:
        super().__init__((), headers=_HEADERS)  # the body is written by `__call__`, since it must see the caller leave
        self._events = events
        self._heartbeat_interval_s = heartbeat_interval_s
        self._heartbeat = heartbeat
        self._describe_error = describe_error
        self._keeps_running = keeps_running

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        head = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        line = EventWriter(send, head)
        with suppress(ClientDisconnectedError):  # it has been logged
            try:
                if self._keeps_running:
                    await self._pass_on(line)
                else:
                    await cancel_on_disconnect(receive, self._pass_on(line))
            except asyncio.CancelledError as cancelled:
                reason = shutdown.of(scope).explain(cancelled)
                if not isinstance(reason, FastAPITritonError) or not line.has_begun:
                    raise reason from None
                await line.write(Event("error", self._describe_error(reason)))
            # Not within `_pass_on`: a server reports the end of a response as a disconnect too.
            await line.end()

    async def _pass_on(self, line: "EventWriter") -> None:
        async with aclosing(self._events) as events:
            try:
                async with line.kept_alive(self._heartbeat, self._heartbeat_interval_s):
                    async for event in events:
                        await line.write(event)
            except ClientDisconnectedError:
                if self._keeps_running:
                    async for _ in events:
                        pass
                raise
            except FastAPITritonError as error:
                if not line.has_begun:
                    raise
                record_error(error)
                await line.write(Event("error", self._describe_error(error)))


class EventWriter:
    """Writes events to a client, and heartbeats between them. The head goes out with the first."""

    def __init__(self, send: Send, head: Message) -> None:
        self._send = send
        self._head = head
        self._loop = asyncio.get_running_loop()
        self._last_sent = self._loop.time()
        self._turn = asyncio.Lock()
        self._beating: asyncio.Task[None] | None = None
        self.has_begun = False  # whether the head has gone out

    async def write(self, event: Event) -> None:
        """Send it once the client has read all earlier events.

        Raises:
            ClientDisconnectedError: the client has taken nothing for `STALLED_S`.
        """
        await self._write({"type": "http.response.body", "body": _encode(event), "more_body": True})

    async def end(self) -> None:
        """End the response. Raises what `write` raises."""
        await self._write({"type": "http.response.body", "body": b"", "more_body": False})

    async def _write(self, message: Message) -> None:
        async with self._turn:
            try:
                async with asyncio.timeout(STALLED_S):
                    if not self.has_begun:
                        await self._send(self._head)
                        self.has_begun = True
                    await self._send(message)
            except TimeoutError:
                logger.info("the caller has taken nothing for %g s; its work is stopped", STALLED_S)
                raise ClientDisconnectedError("The caller stopped reading.") from None
            self._last_sent = self._loop.time()

    @asynccontextmanager
    async def kept_alive(self, heartbeat: Callable[[], Event], interval_s: float) -> AsyncIterator[None]:
        """Send heartbeats while this is entered, or until `stop_heartbeats`."""
        self._beating = asyncio.create_task(self._beat(heartbeat, interval_s))
        try:
            yield
        finally:
            await self.stop_heartbeats()

    async def stop_heartbeats(self) -> None:
        """Send no more of them, so that `has_begun` stays as it is."""
        beating, self._beating = self._beating, None
        if beating is not None:
            beating.cancel()
            await asyncio.wait([beating])

    async def _beat(self, heartbeat: Callable[[], Event], interval_s: float) -> None:
        while True:
            silence_s = self._loop.time() - self._last_sent
            if silence_s >= interval_s:
                with suppress(ClientDisconnectedError):  # the next event meets it as well
                    await self.write(heartbeat())
            else:
                await asyncio.sleep(interval_s - silence_s)


def _encode(event: Event) -> bytes:
    return format_sse_event(event=event.name, data_str=event.data) if event.name else f": {event.data}\n\n".encode()
