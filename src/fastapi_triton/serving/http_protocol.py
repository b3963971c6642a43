# SPDX-License-Identifier: Apache-2.0
"""uvicorn's HTTP with limits on what a connection may take, and errors in our form.

`fastapi-triton serve` uses it; elsewhere: `uvicorn --http fastapi_triton.serving.http_protocol:Protocol main:app`.
Timers cost a request nothing: once an interval `ConnectionWatch` looks at all connections of a server, which count how
long they have been at what they do.
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

# How long a new connection may take to bring its first request when the server takes no more of them.
FIRST_REQUEST_S = 0.5


# A look into an Enum takes longer than all else that is done with it.
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
        # The exchange whose turn it is; later ones are in the pipeline, and what follows them is not parsed yet.
        self._running: Exchange | None = None
        # The reason why no more requests are read, for the client to get after the responses that it waits for.
        self._last_error: FastAPITritonError | None = None
        self._is_surplus = False
        # Looks since the client last read some of the data in the transport.
        self._num_stalled = 0
        self._unsent = 0

    # What the event loop calls.

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
        self.parser = None  # type: ignore[assignment]  # it and we hold each other

    def _disconnect(self) -> None:
        """Report to every request that its client has left."""
        if self._running is not None:
            self._running.disconnect()
        for exchange, _ in self.pipeline:
            if isinstance(exchange, Exchange):
                exchange.release()
        self.pipeline.clear()
        self._running = None
        self.forget_unparsed()

    def hold_back(self) -> None:
        """Read no further once much of a body waits for its app; not for the rest of one that has come nearly whole."""
        exchange = self.cycle
        if isinstance(exchange, Exchange) and exchange.has_enough:
            self.flow.pause_reading()

    @property
    def num_pieces(self) -> int:
        exchange = self.cycle
        return exchange.num_pieces if isinstance(exchange, Exchange) else 0

    # What the parser calls.

    def on_headers_complete(self) -> None:
        self.require_small_head()
        parser, scope = self.parser, self.scope
        scope["method"] = parser.get_method().decode("ascii")
        if parser.should_upgrade():
            if scope["method"] == "CONNECT":
                raise MethodNotAllowedError("CONNECT is for proxies; this server is not one.")
            return  # `upgrades.feed_rest` goes on
        scope["http_version"] = version = parser.get_http_version()
        url = httptools.parse_url(self.url)
        raw_path = url.path or b"/"
        path = raw_path.decode("ascii")
        scope["path"] = self.root_path + (unquote(path) if "%" in path else path)
        scope["raw_path"] = self.root_path.encode("ascii") + raw_path
        scope["query_string"] = url.query or b""
        self.reading = _BODY  # only now: an error raised above means that there is no request
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
        # Who watches over us shall not restart us for it.
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

    # What exchanges and the server call.

    def _start(self, exchange: Exchange, app: ASGI3Application) -> None:
        self._running = exchange
        self._start_asgi_task(exchange, app)

    def _finished(self, exchange: Exchange) -> None:
        """Its answer has gone; the next one's turn."""
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
        """The server takes no more connections: close this one as soon as nothing is begun on it."""
        self.drain.reach(Phase.CLOSED)
        if not self.is_free:
            self.cycle.keep_alive = False
        elif self.reading is _NOTHING_YET:  # its first request may be on its way
            self.loop.call_later(FIRST_REQUEST_S, self._close_unused)
        elif self.reading is _WHOLE:
            self.transport.close()

    @property
    def idleness(self) -> int:
        """Those whose request may be on its way stay longest."""
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
        """Whether no request waits for its answer; one whose head is not whole does not wait yet."""
        return self.cycle is None or self.cycle.response_complete

    def send_400_response(self, msg: str) -> None:
        """What came is no HTTP."""
        self.refuse(UnreadableRequestError(msg))

    # Time.

    def look(self) -> None:
        """Called by the watch. Close what has taken too long, with an answer where one is waited for."""
        self._look_at_answer()
        if self.transport.is_closing():
            return
        self.num_quiet += 1
        if self.flow.read_paused or self.drops_data:  # the client is not the slow one
            self._look_for_leaving()
            return
        self.num_spent += 1
        watch = self._watch
        if self.reading is _BODY:
            self._look_at_body()
        elif not self.is_free:
            return
        elif self.reading is _HEAD and self.num_spent > watch.head:
            self.refuse(
                RequestTooSlowError(f"The request's head did not come whole within {watch.limits.head_timeout_s:g} s.")
            )
        elif (
            (self.reading is _WHOLE and self.num_quiet > watch.idle)
            or (self.reading is _NOTHING_YET and self.num_quiet > watch.head)
            or (self.reading is _LINGERING and self.num_spent > watch.linger)
        ):
            self.transport.close()

    def _look_for_leaving(self) -> None:
        """While reading is paused no event says that the client has left, and the end may lie behind unsent data.

        So bytes after pipelined requests that wait for long are dropped. The connection closes after the last response.
        """
        if connection_watch.has_left(self.transport):
            self._disconnect()
            self.transport.close()
        elif self.pipeline and self.num_quiet > 1:
            self.drops_data = True
            self.flow.resume_reading()

    def _look_at_body(self) -> None:
        limits = self._watch.limits
        if self.num_quiet > self._watch.body_pause:
            reason = f"Nothing of the request's body came for {limits.body_pause_timeout_s:g} s."
        elif self.num_spent > self._watch.body:
            reason = f"The request's body did not come whole within {limits.body_timeout_s:g} s."
        else:
            return
        self.refuse(RequestTooSlowError(f"{reason} Send it faster, or send less."))

    def _look_at_answer(self) -> None:
        unsent = self.transport.get_write_buffer_size()
        self._num_stalled = self._num_stalled + 1 if unsent and unsent == self._unsent else 0
        self._unsent = unsent
        if self._num_stalled > self._watch.stalled:
            logger.info("a caller took nothing of its answer for %g s", STALLED_S)
            self.transport.abort()

    # The end.

    def refuse(self, error: FastAPITritonError) -> None:
        """Read no more requests. The client gets this error after the responses that it still waits for."""
        exchange, is_body, is_free = self.cycle, self.reading is _BODY, self.is_free
        if is_free:
            if not is_body:  # else it has had its answer
                self._write(error)
            self._close()
            return
        self.reading = _LINGERING
        if not (is_body and isinstance(exchange, Exchange)):
            self._last_error = error
        elif self._is_app_ours:  # it reports the error in the form of the client's API
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
        """Close; but while something still comes, first say that this is the end, and throw it away for a moment."""
        if self.reading in (_NOTHING_YET, _WHOLE) or not self.transport.can_write_eof():
            self.transport.close()
            return
        self.reading = _LINGERING
        self.num_spent = 0
        self.flow.resume_reading()
        try:
            self.transport.write_eof()
        except OSError:  # the client is gone already
            self.transport.close()
