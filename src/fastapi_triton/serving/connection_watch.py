# SPDX-License-Identifier: Apache-2.0
"""One timer for all connections of a server, and the check for clients that left while nothing is read from them."""

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

# A client that reads nothing of its response for this long is treated as gone.
STALLED_S = 60.0
# How long the rest of a refused body is read and dropped. Closing at once would lose the response to a reset.
LINGER_S = 5.0
# Linux alone reports the peer's FIN while unread data lies before it; elsewhere only a reset is noticed.
_FIN = getattr(select, "POLLRDHUP", 0)

_looking = BackgroundTask(
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
        """Close it to make room."""

    @abstractmethod
    def look(self) -> None:
        """Called once an interval."""


class ConnectionWatch:
    """Shared by the connections of one server. It calls `look` of each once an interval, as long as there are any.

    The limits are counted in looks.
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
        """Whether there are more connections than there may be, so that requests on the last ones get 503."""
        return len(self._connections) > self.max_connections

    def begin(self, connection: Watched) -> bool:
        """A connection was opened. Returns whether there is room for it: the longest idle one may have gone for it."""
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
            self._timer = self._loop.call_later(self._interval_s, self._look)

    def _look(self) -> None:
        self._timer = None
        connections = list(self._connections)
        _looking.attempt_all(each.look for each in connections if isinstance(each, Watched))
        if connections:
            self._schedule()


_watches: "weakref.WeakKeyDictionary[ServerState, ConnectionWatch]" = weakref.WeakKeyDictionary()


def of(server: ServerState, app_state: Mapping[str, Any], loop: asyncio.AbstractEventLoop) -> ConnectionWatch:
    """The watch of a server, with the limits of its app; without those, as the environment says."""
    watch = _watches.get(server)
    if watch is None:
        limits = app_state.get(settings.STATE) or Settings()
        buffers = app_state.get(body_buffers.STATE) or BodyBuffers(limits.max_buffered_body_bytes)
        watch = _watches[server] = ConnectionWatch(server.connections, limits, buffers, loop)
    return watch


def has_left(transport: asyncio.BaseTransport) -> bool:
    """Whether the peer has closed the connection. Works while reading is paused, when no event says so."""
    connection = transport.get_extra_info("socket")
    if connection is None or connection.fileno() < 0:
        return False
    poll = select.poll()
    poll.register(connection.fileno(), _FIN)  # errors and hang-ups are always reported
    return bool(poll.poll(0))
