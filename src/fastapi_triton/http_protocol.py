# SPDX-License-Identifier: Apache-2.0
"""uvicorn's HTTP with limits on what a connection may take, errors in our form, and less work for each request.

`fastapi-triton serve` uses it; elsewhere it is `uvicorn --http fastapi_triton.http_protocol:Protocol main:app`. Timers
cost a request nothing: all connections of a server are looked at once in a while (`_Watch`), which counts how long each
has been at what it does.
"""

import asyncio
import logging
import secrets
import weakref
from contextvars import copy_context
from enum import Enum
from typing import Any
from urllib.parse import unquote

import httptools
from starlette.types import Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from fastapi_triton import connection_limits, drain, problems
from fastapi_triton.connection_limits import ConnectionLimits
from fastapi_triton.drain import Drain, Phase
from fastapi_triton.errors import (
    FastAPITritonError,
    HeadTooLargeError,
    OverloadedError,
    RequestTooSlowError,
    UnreadableRequestError,
)
from fastapi_triton.exchange import Exchange, closing_answer
from fastapi_triton.middleware.request_id import current_request_id

logger = logging.getLogger(__name__)

MAX_HEAD_BYTES = 64 * 1024
# A caller that takes nothing of its answer for so long has left, in effect.
STALLED_S = 60.0
# How long what still comes of a refused body is thrown away. Closing at once would throw our answer away, with a reset.
LINGER_S = 5.0
# How long a new connection may take to bring its first request when the server takes no more of them.
FIRST_REQUEST_S = 0.5


class _Reading(Enum):
    """What a connection is waiting for."""

    NOTHING_YET = 0
    HEAD = 1
    BODY = 2
    WHOLE = 3  # has come; the next head may
    LINGERING = 4


# A look into an Enum takes longer than all else that is done with it.
_NOTHING_YET, _HEAD, _BODY, _WHOLE, _LINGERING = _Reading
_SERVING = Phase.SERVING
_ASGI = {"version": "3.0", "spec_version": "2.3"}


class _Watch:
    """Looks at every connection of one server now and then, as long as there are any."""

    def __init__(self, state: ServerState, limits: ConnectionLimits, loop: asyncio.AbstractEventLoop) -> None:
        self.limits = limits
        self.head, self.body_pause, self.body, self.idle, self.stalled, self.linger = (
            max(1, round(seconds / limits.interval_s))
            for seconds in (limits.head_s, limits.body_pause_s, limits.body_s, limits.idle_s, STALLED_S, LINGER_S)
        )
        self._connections = state.connections
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(self.limits.interval_s, self._look)

    def _look(self) -> None:
        self._timer = None
        for each in list(self._connections):
            if isinstance(each, Protocol):
                each.look()
        if self._connections:
            self.begin()


_watches: "weakref.WeakKeyDictionary[ServerState, _Watch]" = weakref.WeakKeyDictionary()


class Protocol(HttpToolsProtocol):
    """One connection."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.drain: Drain = app_state.get(drain.STATE) or Drain()
        self._is_app_ours = connection_limits.STATE in app_state
        watch = _watches.get(server_state)
        if watch is None:
            limits = app_state.get(connection_limits.STATE) or connection_limits.from_environment()
            watch = _watches[server_state] = _Watch(server_state, limits, self.loop)
        self._watch = watch
        self._reading = _NOTHING_YET
        self._is_surplus = False
        self._num_head_bytes = 0
        # Looks since the last byte came or the last answer went; since the head or the body began; and since the caller
        # took something of what lies in the transport.
        self._num_quiet = self._num_spent = self._num_stalled = 0
        self._unsent = 0

    # What the event loop calls.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._is_surplus = len(self.connections) > self._watch.limits.max_connections
        self._watch.begin()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.connections.discard(self)
        for exchange in (self.cycle, *(exchange for exchange, _ in self.pipeline)):
            if isinstance(exchange, Exchange) and not exchange.response_complete:
                exchange.disconnected = True
                exchange.tell()
        self.pipeline.clear()
        self.flow.resume_writing()
        self.parser = None  # type: ignore[assignment]  # it and we hold each other

    def data_received(self, data: bytes) -> None:
        self._num_quiet = 0
        if self._reading is _LINGERING:
            return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            if self._should_upgrade():
                self.handle_websocket_upgrade()
        except httptools.HttpParserError as error:
            logger.debug("a request cannot be read: %r", error.__context__ or error)
            self.send_400_response("This is no HTTP/1.1 request, or not one that can be read.")
            return
        if self._reading is _BODY:
            self._hold_back()
        elif self._reading is _HEAD:
            self._num_head_bytes += len(data)
            if self._num_head_bytes > MAX_HEAD_BYTES:
                self._refuse(HeadTooLargeError(f"The head of the request is over {MAX_HEAD_BYTES:,} bytes."))

    def _hold_back(self) -> None:
        """Read no further once much of a body waits for its app; not for the rest of one that has come nearly whole."""
        exchange = self.cycle
        if isinstance(exchange, Exchange) and exchange.has_enough:
            self.flow.pause_reading()

    # What the parser calls.

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._reading = _HEAD
        self._num_spent = self._num_head_bytes = 0

    def on_headers_complete(self) -> None:
        parser = self.parser
        version = parser.get_http_version()
        url = httptools.parse_url(self.url)
        raw_path = url.path or b"/"
        path = raw_path.decode("ascii")
        root_path = self.root_path
        self.scope = {
            "type": "http",
            "asgi": _ASGI,  # type: ignore[typeddict-item]  # of the version that uvicorn speaks
            "http_version": version,
            "method": parser.get_method().decode("ascii"),
            "scheme": self.scheme or "http",
            "path": root_path + (unquote(path) if "%" in path else path),
            "raw_path": root_path.encode("ascii") + raw_path if root_path else raw_path,
            "query_string": url.query or b"",
            "root_path": root_path,
            "headers": self.headers,
            "client": self.client,
            "server": self.server,
            "state": self.app_state.copy(),
        }
        if parser.should_upgrade() and self._should_upgrade():
            return
        self._reading = _BODY  # not before, since what is raised above says that there is no request
        self._num_spent = 0
        previous = self.cycle
        keep_alive = version != "1.0" and parser.should_keep_alive() and not parser.should_upgrade()
        self.cycle = exchange = Exchange(self, self._finished, keep_alive=keep_alive and self.drain.phase is _SERVING)
        app = self.app
        if self._is_surplus and self._is_still_surplus(path):
            app = _too_many_connections
            exchange.keep_alive = False
        if previous is None or previous.response_complete:
            self._start_asgi_task(exchange, app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((exchange, app))

    def _is_still_surplus(self, path: str) -> bool:
        # Who watches over us shall not restart us for it.
        return len(self.connections) > self._watch.limits.max_connections and not path.startswith("/health/")

    def on_body(self, body: bytes) -> None:
        exchange = self.cycle
        if isinstance(exchange, Exchange) and not exchange.response_complete:
            exchange.take(body)

    def on_message_complete(self) -> None:
        self._reading = _WHOLE
        exchange = self.cycle
        if isinstance(exchange, Exchange) and not exchange.response_complete:
            exchange.more_body = False
            exchange.tell()

    # What exchanges and the server call.

    def _finished(self, exchange: Exchange) -> None:
        """Its answer has gone; the next one's turn."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self._num_quiet = 0
        if not exchange.keep_alive:
            self._close()
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())

    def shutdown(self) -> None:
        """The server takes no more connections: close this one as soon as nothing is begun on it."""
        self.drain.reach(Phase.CLOSED)
        if not self._is_free:
            self.cycle.keep_alive = False
        elif self._reading is _NOTHING_YET:  # its first request may be on its way
            self.loop.call_later(FIRST_REQUEST_S, self._close_unused)
        elif self._reading is _WHOLE:
            self.transport.close()

    def _close_unused(self) -> None:
        if self._reading is _NOTHING_YET:
            self.transport.close()

    @property
    def _is_free(self) -> bool:
        """Whether no request waits for its answer; one whose head is not whole does not wait yet."""
        return self.cycle is None or self.cycle.response_complete

    def send_400_response(self, msg: str) -> None:
        """What came is no HTTP."""
        self._refuse(UnreadableRequestError(msg))

    # Time.

    def look(self) -> None:
        """Called by the watch. Close what has taken too long, with an answer where one is waited for."""
        self._look_at_answer()
        if self.flow.read_paused or self.transport.is_closing():  # it is we who read no further
            return
        self._num_quiet += 1
        self._num_spent += 1
        watch = self._watch
        if self._reading is _BODY:
            self._look_at_body()
        elif not self._is_free:
            return
        elif self._reading is _HEAD and self._num_spent > watch.head:
            self._refuse(
                RequestTooSlowError(f"The request's head did not come whole within {watch.limits.head_s:g} s.")
            )
        elif (
            (self._reading is _WHOLE and self._num_quiet > watch.idle)
            or (self._reading is _NOTHING_YET and self._num_quiet > watch.head)
            or (self._reading is _LINGERING and self._num_spent > watch.linger)
        ):
            self.transport.close()

    def _look_at_body(self) -> None:
        limits = self._watch.limits
        if self._num_quiet > self._watch.body_pause:
            reason = f"Nothing of the request's body came for {limits.body_pause_s:g} s."
        elif self._num_spent > self._watch.body:
            reason = f"The request's body did not come whole within {limits.body_s:g} s."
        else:
            return
        self._refuse(RequestTooSlowError(f"{reason} Send it faster, or send less."))

    def _look_at_answer(self) -> None:
        unsent = self.transport.get_write_buffer_size()
        self._num_stalled = self._num_stalled + 1 if unsent and unsent == self._unsent else 0
        self._unsent = unsent
        if self._num_stalled > self._watch.stalled:
            logger.info("a caller took nothing of its answer for %g s", STALLED_S)
            self.transport.abort()

    # The end.

    def _refuse(self, error: FastAPITritonError) -> None:
        """No more is read here. Who waits for an answer to what was sent so far gets this one."""
        exchange = self.cycle
        if self._reading is _BODY and isinstance(exchange, Exchange) and not self._is_free:
            self._reading = _LINGERING
            if self._is_app_ours:  # it tells its callers in the form of their API
                exchange.fail(error)
                return
            exchange.disconnected = True
            exchange.tell()
            if not exchange.response_started:
                self._write(error)
            self._close()
        elif self._is_free:
            if self._reading is not _BODY:  # else it has had its answer
                self._write(error)
            self._close()
        else:  # an earlier request has its answer still to come
            self._reading = _LINGERING
            exchange.keep_alive = False

    def _write(self, error: FastAPITritonError) -> None:
        context = copy_context()
        context.run(current_request_id.set, secrets.token_hex(16))
        answer = context.run(problems.response, error)
        self.transport.write(
            closing_answer(
                answer.status_code, answer.raw_headers, bytes(answer.body), self.server_state.default_headers
            )
        )

    def _close(self) -> None:
        """Close; but while something still comes, first say that this is the end, and throw it away for a moment."""
        if self._reading in (_NOTHING_YET, _WHOLE) or not self.transport.can_write_eof():
            self.transport.close()
            return
        self._reading = _LINGERING
        self._num_spent = 0
        self.flow.resume_reading()
        self.transport.write_eof()


async def _too_many_connections(scope: Scope, receive: Receive, send: Send) -> None:
    current_request_id.set(secrets.token_hex(16))
    error = OverloadedError("Too many connections are open. Try again later.", retry_after_s=1.0)
    await problems.response(error)(scope, receive, send)
