# SPDX-License-Identifier: Apache-2.0
"""Server-sent events as a response, with heartbeats. A disconnect cancels the request."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass

import orjson
from fastapi.sse import EventSourceResponse, format_sse_event
from starlette.types import Message, Receive, Scope, Send

from fastapi_triton.admission.fair_queue import QueuePosition, QueueTicket
from fastapi_triton.core import problem_details, shutdown
from fastapi_triton.core.disconnect import cancel_on_disconnect
from fastapi_triton.core.errors import ClientDisconnectedError, FastAPITritonError
from fastapi_triton.core.request_record import record_error

logger = logging.getLogger(__name__)

# A client that is connected but reads nothing for this long counts as disconnected.
STALLED_S = 60.0
# The event of a request that waits in the frontend's queue or in the model's.
QUEUED = "queued"

_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "Vary": "Accept"}


@dataclass(frozen=True, slots=True)
class Event:
    """One event, with JSON as its `data`. Without a name it is a comment, which clients skip."""

    name: str
    data: str


PING = Event("", "ping")


def ping() -> Event:
    """The heartbeat of a stream: a comment without a meaning."""
    return PING


def queued_event(ticket: QueueTicket) -> Event:
    """The heartbeat of a stream whose request may wait for a slot: a `queued` event while it waits."""
    position = ticket.position
    return PING if position is None else Event(QUEUED, orjson.dumps(position.as_json()).decode())


def queued_comment(ticket: QueueTicket) -> Event:
    """The same as a comment, for clients that do not know the event."""
    return position_comment(ticket.position)


def position_comment(position: QueuePosition | None) -> Event:
    """A position as a comment; a heartbeat without one."""
    if position is None:
        return PING
    return Event("", " ".join((QUEUED, *(f"{name}={value}" for name, value in position.as_json().items()))))


class EventsResponse(EventSourceResponse):
    """Sends events as they come, and a heartbeat when nothing was sent for `heartbeat_interval_s`.

    The head is sent with the first event or heartbeat. An error before that is raised, so it becomes a plain response
    with its own status. A later error is sent as the last event, `error`, with the data from `describe_error`. When the
    client disconnects, the generator is cancelled. With `keeps_running` it runs to its end, and its events are dropped.
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
        super().__init__((), headers=_HEADERS)  # `__call__` writes the body, since it watches for the disconnect
        self._events = events
        self._heartbeat_interval_s = heartbeat_interval_s
        self._heartbeat = heartbeat
        self._describe_error = describe_error
        self._keeps_running = keeps_running

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        head = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        writer = EventWriter(send, head)
        with suppress(ClientDisconnectedError):  # it has been logged
            try:
                if self._keeps_running:
                    await self._send_events(writer)
                else:
                    await cancel_on_disconnect(receive, self._send_events(writer))
            except asyncio.CancelledError as cancelled:
                reason = shutdown.of(scope).explain(cancelled)
                if not isinstance(reason, FastAPITritonError) or not writer.has_begun:
                    raise reason from None
                await writer.write(Event("error", self._describe_error(reason)))
            # Not within `_send_events`: a server reports the end of a response as a disconnect too.
            await writer.end()

    async def _send_events(self, writer: "EventWriter") -> None:
        async with aclosing(self._events) as events:
            try:
                async with writer.kept_alive(self._heartbeat, self._heartbeat_interval_s):
                    async for event in events:
                        await writer.write(event)
            except ClientDisconnectedError:
                if self._keeps_running:
                    async for _ in events:
                        pass
                raise
            except FastAPITritonError as error:
                if not writer.has_begun:
                    raise
                record_error(error)
                await writer.write(Event("error", self._describe_error(error)))


class EventWriter:
    """Writes events to a client, and heartbeats between them. The head is sent with the first."""

    def __init__(self, send: Send, head: Message) -> None:
        self._send = send
        self._head = head
        self._loop = asyncio.get_running_loop()
        self._last_sent = self._loop.time()
        self._write_lock = asyncio.Lock()
        self._heartbeats: asyncio.Task[None] | None = None
        self.has_begun = False  # whether the head was sent

    async def write(self, event: Event) -> None:
        """Send one event when the client has read all earlier ones.

        Raises:
            ClientDisconnectedError: the client has read nothing for `STALLED_S`.
        """
        await self._write({"type": "http.response.body", "body": _encode(event), "more_body": True})

    async def end(self) -> None:
        """End the response. Raises what `write` raises."""
        await self._write({"type": "http.response.body", "body": b"", "more_body": False})

    async def _write(self, message: Message) -> None:
        async with self._write_lock:
            try:
                async with asyncio.timeout(STALLED_S):
                    if not self.has_begun:
                        await self._send(self._head)
                        self.has_begun = True
                    await self._send(message)
            except TimeoutError:
                logger.info("the client has read nothing for %g s; it counts as disconnected", STALLED_S)
                raise ClientDisconnectedError("The client stopped reading.") from None
            self._last_sent = self._loop.time()

    @asynccontextmanager
    async def kept_alive(self, heartbeat: Callable[[], Event], interval_s: float) -> AsyncIterator[None]:
        """Send heartbeats within this context, or until `stop_heartbeats`."""
        self._heartbeats = asyncio.create_task(self._beat(heartbeat, interval_s))
        try:
            yield
        finally:
            await self.stop_heartbeats()

    async def stop_heartbeats(self) -> None:
        """Stop the heartbeats, so that `has_begun` no longer changes."""
        task, self._heartbeats = self._heartbeats, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _beat(self, heartbeat: Callable[[], Event], interval_s: float) -> None:
        while True:
            silence_s = self._loop.time() - self._last_sent
            if silence_s >= interval_s:
                with suppress(ClientDisconnectedError):  # the next event raises it again
                    await self.write(heartbeat())
            else:
                await asyncio.sleep(interval_s - silence_s)


def _encode(event: Event) -> bytes:
    return format_sse_event(event=event.name, data_str=event.data) if event.name else f": {event.data}\n\n".encode()
