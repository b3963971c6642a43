# SPDX-License-Identifier: Apache-2.0
"""Applies time limits to a server's connections with one timer, and notices disconnects while reading is paused."""

import asyncio
import select
import weakref
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import Any

from uvicorn.server import ServerState

from fastapi_triton.core import body_buffers, settings
from fastapi_triton.core.background import BackgroundTask
from fastapi_triton.core.body_buffers import BodyBuffers
from fastapi_triton.core.settings import Settings
from fastapi_triton.serving import process_limits
from fastapi_triton.serving.process_limits import SPARE_CONNECTIONS

# A client that reads nothing of its response for this long counts as disconnected.
STALLED_S = 60.0
# How long the rest of a rejected body is read and dropped. Closing at once would reset the connection, and the client
# would lose the response.
LINGER_S = 5.0
# Only Linux reports the peer's FIN while unread data is before it. Other systems report only a reset.
_FIN = getattr(select, "POLLRDHUP", 0)

_checks = BackgroundTask(
    "connection limits", consequence="Slow and idle connections may stay open longer than the limits allow."
).list_always()


class Watched(ABC):
    """A connection with time limits."""

    @property
    @abstractmethod
    def idleness(self) -> int:
        """The connection with the highest value is closed first; 0: it is in use."""

    @abstractmethod
    def close_idle(self) -> None:
        """Close the connection, to make room for another."""

    @abstractmethod
    def check(self) -> None:
        """Apply the time limits. The watch calls this at every tick."""


class ConnectionWatch:
    """Calls `check` of each connection of a server at every tick, as long as there are connections.

    The limits are numbers of ticks.
    """

    def __init__(
        self,
        connections: Collection[Any],
        limits: Settings,
        body_buffers: BodyBuffers,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.limits, self.body_buffers = limits, body_buffers
        self.max_connections = process_limits.connections_within(limits.max_connections)
        timeouts_s = (
            *(limits.head_timeout_s, limits.body_pause_timeout_s),
            *(limits.body_timeout_s, limits.idle_timeout_s),
        )
        self._interval_s = min(1.0, *(each / 4 for each in timeouts_s))
        self.head, self.body_pause, self.body, self.idle, self.stalled, self.linger = (
            max(1, round(each / self._interval_s)) for each in (*timeouts_s, STALLED_S, LINGER_S)
        )
        self._connections = connections
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_full(self) -> bool:
        """Whether there are too many connections: requests on the surplus ones fail with 503."""
        return len(self._connections) > self.max_connections

    def begin(self, connection: Watched) -> bool:
        """Admit a new connection, if necessary in place of the one that is idle longest. False: all are busy."""
        self._schedule()
        if len(self._connections) <= self.max_connections + SPARE_CONNECTIONS:
            return True
        others = (each for each in self._connections if isinstance(each, Watched) and each is not connection)
        idle = max(others, key=lambda each: each.idleness, default=None)
        if idle is None or not idle.idleness:
            return False
        idle.close_idle()
        return True

    def _schedule(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(self._interval_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        connections = list(self._connections)
        _checks.attempt_all(each.check for each in connections if isinstance(each, Watched))
        if connections:
            self._schedule()


_watches: "weakref.WeakKeyDictionary[ServerState, ConnectionWatch]" = weakref.WeakKeyDictionary()


def of(server: ServerState, app_state: Mapping[str, Any], loop: asyncio.AbstractEventLoop) -> ConnectionWatch:
    """The watch of a server. Its limits are those of its app, or else those in the environment."""
    watch = _watches.get(server)
    if watch is None:
        limits = app_state.get(settings.STATE) or Settings()
        buffers = app_state.get(body_buffers.STATE) or BodyBuffers(limits.max_buffered_body_bytes)
        watch = _watches[server] = ConnectionWatch(server.connections, limits, buffers, loop)
    return watch


def has_left(transport: asyncio.BaseTransport) -> bool:
    """Whether the peer has closed the connection. While reading is paused, no event reports this."""
    connection = transport.get_extra_info("socket")
    if connection is None or connection.fileno() < 0:
        return False
    poll = select.poll()
    poll.register(connection.fileno(), _FIN)  # errors and hang-ups are always reported
    return bool(poll.poll(0))
