# SPDX-License-Identifier: Apache-2.0
"""uvicorn's HTTP/1.1 protocol with limits for each connection, and errors in the frontend's format.

`fastapi-triton serve` uses it; elsewhere: `uvicorn --http fastapi_triton.serving.http_protocol:Protocol main:app`.
Time limits need no timers for each request: `ConnectionWatch` checks all connections of a server at every tick, and
each connection counts the ticks of its current state.
"""

import asyncio
import logging
from typing import Any
from urllib.parse import unquote

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.server import ServerState

from fastapi_triton.core import settings
from fastapi_triton.core import shutdown as drain
from fastapi_triton.core.body_buffers import UNCOUNTED_BYTES
from fastapi_triton.core.errors import (
    FastAPITritonError,
    MethodNotAllowedError,
    RequestTooSlowError,
    UnreadableRequestError,
)
from fastapi_triton.core.paths import is_probe
from fastapi_triton.core.shutdown import Drain, Phase
from fastapi_triton.serving import connection_watch, refusals
from fastapi_triton.serving.connection_watch import STALLED_S, Watched
from fastapi_triton.serving.request_cycle import Exchange
from fastapi_triton.serving.request_reader import Reading, RequestReader

logger = logging.getLogger(__name__)

# How long the server waits for the first request of an open connection when it no longer accepts connections.
FIRST_REQUEST_S = 0.5


# Reading a member of an Enum takes longer than the rest of the work with it.
_NOTHING_YET, _HEAD, _BODY, _WHOLE, _LINGERING = Reading
_SERVING = Phase.SERVING


class Protocol(RequestReader, Watched):
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
        self._is_app_ours = settings.STATE in app_state
        self._watch = connection_watch.of(server_state, app_state, self.loop)
        self.body_buffers = self._watch.body_buffers
        # The request that the app handles now. Later ones are in the pipeline; bytes after these are not parsed yet.
        self._running: Exchange | None = None
        # The error after which no more requests are read. The client gets it after the responses that it waits for.
        self._last_error: FastAPITritonError | None = None
        self._is_surplus = False
        # Ticks since the client last read some of the data in the transport.
        self._num_stalled = 0
        self._unsent = 0

    # ---- called by the event loop

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._is_surplus = self._watch.is_full
        if not self._watch.begin(self):
            self._write(refusals.connections_exhausted())
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.connections.discard(self)
        self._disconnect()
        self.flow.resume_writing()
        self.parser = None  # type: ignore[assignment]  # else parser and protocol keep each other in memory

    def _disconnect(self) -> None:
        """Report the disconnect to every request of the connection."""
        if self._running is not None:
            self._running.disconnect()
        for exchange, _ in self.pipeline:
            if isinstance(exchange, Exchange):
                exchange.release()
        self.pipeline.clear()
        self._running = None
        self.forget_unparsed()

    def hold_back(self) -> None:
        """Pause reading while much of a body waits for the app."""
        exchange = self.cycle
        if isinstance(exchange, Exchange) and exchange.has_enough:
            self.flow.pause_reading()

    @property
    def num_pieces(self) -> int:
        exchange = self.cycle
        return exchange.num_pieces if isinstance(exchange, Exchange) else 0

    # ---- called by the parser

    def on_headers_complete(self) -> None:
        self.require_small_head()
        parser, scope = self.parser, self.scope
        scope["method"] = parser.get_method().decode("ascii")
        if parser.should_upgrade():
            if scope["method"] == "CONNECT":
                raise MethodNotAllowedError("This server is not a proxy, so it does not support CONNECT.")
            return  # `upgrades.feed_rest` continues
        scope["http_version"] = version = parser.get_http_version()
        url = httptools.parse_url(self.url)
        raw_path = url.path or b"/"
        path = raw_path.decode("ascii")
        scope["path"] = self.root_path + (unquote(path) if "%" in path else path)
        scope["raw_path"] = self.root_path.encode("ascii") + raw_path
        scope["query_string"] = url.query or b""
        self.reading = _BODY  # only now: after an error above there is no request
        self.num_spent = 0
        previous = self.cycle
        keep_alive = version != "1.0" and parser.should_keep_alive() and self.drain.phase is _SERVING
        self.cycle = exchange = Exchange(self, self._finished, self.read_on, keep_alive=keep_alive)
        app = self.app
        if self._is_surplus and self._is_still_surplus(path):
            app = refusals.too_many_connections
            exchange.keep_alive = False
        if previous is None or previous.response_complete:
            self._start(exchange, app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((exchange, app))

    def _is_still_surplus(self, path: str) -> bool:
        # Probes always succeed, so that a full server is not restarted.
        return self._watch.is_full and not is_probe(path)

    def on_body(self, body: bytes) -> None:
        self.num_body_bytes += len(body)
        exchange = self.cycle
        if isinstance(exchange, Exchange) and not exchange.response_complete:
            if self.num_body_bytes > UNCOUNTED_BYTES:
                exchange.count(self.num_body_bytes, self.body_buffers)
            exchange.take(body)

    def on_message_complete(self) -> None:
        self.reading = _WHOLE
        exchange = self.cycle
        if isinstance(exchange, Exchange) and exchange.more_body and not exchange.response_complete:
            exchange.more_body = False
            exchange.message_event.set()

    # ---- called by exchanges and the server

    def _start(self, exchange: Exchange, app: ASGI3Application) -> None:
        self._running = exchange
        self._start_asgi_task(exchange, app)

    def _finished(self, exchange: Exchange) -> None:
        """The response of this exchange is sent: start the next request."""
        self.server_state.total_requests += 1
        exchange.release()
        if self.transport.is_closing():
            return
        self.num_quiet = 0
        if exchange.closes:
            self._close()
            return
        if self.pipeline:
            self._start(*self.pipeline.pop())  # type: ignore[arg-type]  # all of them are ours
        elif self._last_error is not None:
            self._write(self._last_error)
            self._close()
            return
        self.read_on()

    def shutdown(self) -> None:
        """The server accepts no more connections: close this one as soon as no request runs on it."""
        self.drain.reach(Phase.CLOSED)
        if not self.is_free:
            self.cycle.keep_alive = False
        elif self.reading is _NOTHING_YET:  # the first request may be on its way
            self.loop.call_later(FIRST_REQUEST_S, self._close_unused)
        elif self.reading is _WHOLE:
            self.transport.close()

    @property
    def idleness(self) -> int:
        """Ticks without data. Connections that have had a request rank higher: others may still send their first."""
        if not self.is_free or self.reading is _BODY or self.transport.is_closing():
            return 0
        return 1 + self.num_quiet + (1000 if self.reading is _WHOLE else 0)

    def close_idle(self) -> None:
        self.transport.close()
        self.connections.discard(self)

    def _close_unused(self) -> None:
        if self.reading is _NOTHING_YET:
            self.transport.close()

    @property
    def is_free(self) -> bool:
        """Whether no request waits for its response. A request without a complete head does not wait yet."""
        return self.cycle is None or self.cycle.response_complete

    def send_400_response(self, msg: str) -> None:
        """Reject bytes that are not HTTP."""
        self.refuse(UnreadableRequestError(msg))

    # ---- time limits

    def check(self) -> None:
        """Close the connection if a time limit has passed; if a request waits, with an error response."""
        self._check_response()
        if self.transport.is_closing():
            return
        self.num_quiet += 1
        if self.flow.read_paused or self.drops_data:  # the client is not slow: it waits for the app
            self._check_disconnect()
            return
        self.num_spent += 1
        watch = self._watch
        if self.reading is _BODY:
            self._check_body()
        elif not self.is_free:
            return
        elif self.reading is _HEAD and self.num_spent > watch.head:
            self.refuse(
                RequestTooSlowError(
                    f"The request's headers did not arrive completely within {watch.limits.head_timeout_s:g} s. "
                    "Send them faster."
                )
            )
        elif (
            (self.reading is _WHOLE and self.num_quiet > watch.idle)
            or (self.reading is _NOTHING_YET and self.num_quiet > watch.head)
            or (self.reading is _LINGERING and self.num_spent > watch.linger)
        ):
            self.transport.close()

    def _check_disconnect(self) -> None:
        """Notice a disconnect while reading is paused. No event reports it then.

        The disconnect may be behind unread data. So after pipelined requests that wait long, further data is read and
        dropped, and the connection closes after the last response.
        """
        if connection_watch.has_left(self.transport):
            self._disconnect()
            self.transport.close()
        elif self.pipeline and self.num_quiet > 1:
            self.drops_data = True
            self.flow.resume_reading()

    def _check_body(self) -> None:
        limits = self._watch.limits
        if self.num_quiet > self._watch.body_pause:
            reason = f"No data of the request's body arrived for {limits.body_pause_timeout_s:g} s."
        elif self.num_spent > self._watch.body:
            reason = f"The request's body did not arrive completely within {limits.body_timeout_s:g} s."
        else:
            return
        self.refuse(RequestTooSlowError(f"{reason} Send it faster, or send less."))

    def _check_response(self) -> None:
        unsent = self.transport.get_write_buffer_size()
        self._num_stalled = self._num_stalled + 1 if unsent and unsent == self._unsent else 0
        self._unsent = unsent
        if self._num_stalled > self._watch.stalled:
            logger.info("a client read nothing of its response for %g s; its connection is closed", STALLED_S)
            self.transport.abort()

    # ---- closing

    def refuse(self, error: FastAPITritonError) -> None:
        """Read no more requests. The client gets this error after the responses that it still waits for."""
        exchange, is_body, is_free = self.cycle, self.reading is _BODY, self.is_free
        if is_free:
            if not is_body:  # else the client has its response
                self._write(error)
            self._close()
            return
        self.reading = _LINGERING
        if not (is_body and isinstance(exchange, Exchange)):
            self._last_error = error
        elif self._is_app_ours:  # our app sends the error in the format of the client's API
            exchange.fail(error)
        elif exchange is not self._running:
            self.pipeline.popleft()
            exchange.release()
            self._last_error = error
        else:
            exchange.disconnect()
            if not exchange.response_started:
                self._write(error)
            self._close()

    def _write(self, error: FastAPITritonError) -> None:
        self.transport.write(refusals.closing_response(error, self.server_state.default_headers))

    def _close(self) -> None:
        """Close the connection. If the client may still send, first close only our side, and drop data for a moment."""
        if self.reading in (_NOTHING_YET, _WHOLE) or not self.transport.can_write_eof():
            self.transport.close()
            return
        self.reading = _LINGERING
        self.num_spent = 0
        self.flow.resume_reading()
        try:
            self.transport.write_eof()
        except OSError:  # the client has already disconnected
            self.transport.close()
