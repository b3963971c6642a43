# SPDX-License-Identifier: Apache-2.0
"""Records every request for metrics and log: its id, the time of each stage (`Server-Timing`) and its outcome.

This is one middleware, since each middleware costs every request some microseconds.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import perf_counter

from opentelemetry import trace
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastapi_triton.core.context import REQUEST_ID_NAME, choose_request_id, current_request_id
from fastapi_triton.core.request_record import READ, WRITE, RequestRecord, current_record

Observer = Callable[[RequestRecord], None]
Header = tuple[bytes, bytes]

# Methods become metric labels, and a client can send any text as a method.
_METHODS = frozenset(("GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"))
# The headers that this middleware sets, and those that it reads.
_OURS = frozenset((REQUEST_ID_NAME, b"server-timing"))
_READ = frozenset((REQUEST_ID_NAME, b"traceparent", b"tracestate"))
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(?:-[0-9a-z-]*)?")


class RequestRecordingMiddleware:
    """Sets `current_request_id` and `current_record`, and adds request id and times to the response's headers.

    When the request has ended, it calls the observers with the record.
    """

    def __init__(self, app: ASGIApp, observers: Sequence[Observer] = (), *, may_trace: bool = False) -> None:
        self.app = app
        self._observers = observers
        self._may_trace = may_trace

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        record, id_header = _begin(scope)
        record.is_traced = self._may_trace and trace.get_current_span().get_span_context().is_valid
        messages = _Messages(record, id_header, scope, receive, send)
        try:
            await self.app(scope, messages.receive, messages.send)
        except Exception:
            # Starlette's error handler, outside of this middleware, sends the response.
            record.status, record.code = record.status or 500, "internal_error"
            raise
        finally:
            record.total_s = perf_counter() - record.started
            record.route = record.route or _route(scope)
            for observe in self._observers:
                observe(record)


class _Messages:
    """The `receive` and `send` of a request, which record times and sizes."""

    __slots__ = ("_id_header", "_receive", "_record", "_scope", "_send")

    def __init__(self, record: RequestRecord, id_header: Header, scope: Scope, receive: Receive, send: Send) -> None:
        self._record = record
        self._id_header = id_header
        self._scope = scope
        self._receive = receive
        self._send = send

    async def receive(self) -> Message:
        record = self._record
        if record.is_body_whole:  # the app waits for the client's disconnect
            return await self._receive()
        began = perf_counter()
        message = await self._receive()
        record.seconds[READ] += perf_counter() - began
        record.received_bytes += len(message.get("body", b""))
        record.is_body_whole = not message.get("more_body", False)
        return message

    def send(self, message: Message) -> Awaitable[None]:
        if message["type"] != "http.response.start":
            return self._send_body(message)
        record = self._record
        record.status = message["status"]
        record.has_response_begun = True
        headers = [header for header in message.get("headers", ()) if header[0] not in _OURS]
        headers += (self._id_header, (b"server-timing", record.server_timing(perf_counter())))
        message["headers"] = headers
        if record.is_traced:
            _name_span(record, self._scope)
        return self._send(message)  # not timed: most servers send the head with the first part of the body

    async def _send_body(self, message: Message) -> None:
        began = perf_counter()
        record = self._record
        record.sent_bytes += len(message.get("body", b""))
        await self._send(message)
        record.seconds[WRITE] += perf_counter() - began


def _begin(scope: Scope) -> tuple[RequestRecord, Header]:
    """The record of a request, and the response header with its id."""
    requested = b""
    trace_context: dict[str, str] | None = None
    for name, value in scope["headers"]:
        if name in _READ:
            if name == REQUEST_ID_NAME:
                requested = value
            else:
                trace_context = {**(trace_context or {}), name.decode(): value.decode("latin-1")}
    chosen = choose_request_id(requested)
    current_request_id.set(chosen)
    method = scope["method"]
    record = RequestRecord(method if method in _METHODS else "OTHER", scope["raw_path"])
    if trace_context is not None and _is_valid(trace_context):
        record.trace_headers = list(trace_context.items())
    current_record.set(record)
    return record, (REQUEST_ID_NAME, chosen.encode())


def _is_valid(trace_context: Mapping[str, str]) -> bool:
    """Whether the trace headers may be written into the head of a request to Triton."""
    parent, state = trace_context.get("traceparent", ""), trace_context.get("tracestate", "")
    return _TRACEPARENT.fullmatch(parent) is not None and state.isascii() and state.isprintable()


def _route(scope: Scope) -> str:
    """The template of the request's route; empty if no route matches."""
    return getattr(scope.get("route"), "path", "")


def _name_span(record: RequestRecord, scope: Scope) -> None:
    """Name the span by the route's template. FastAPI does so too, but has only one route for all of `/v2`."""
    record.route = record.route or _route(scope)
    span = trace.get_current_span()
    span.update_name(f"{record.method} {record.route}" if record.route else record.method)
    span.set_attribute("http.route", record.route)
