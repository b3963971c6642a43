# SPDX-License-Identifier: Apache-2.0
"""The record of one request: the duration of each stage, and the outcome.

`middleware/request_recording.py` creates it and writes `Server-Timing` from it. Metrics and the access log read it at
the end. Code marks the work of a stage with `with Stage(TRITON):`.
"""

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from enum import Enum
from time import perf_counter
from types import TracebackType
from typing import Final, Self

from opentelemetry import propagate, trace
from opentelemetry.context import Context

from fastapi_triton.core.errors import FastAPITritonError

READ: Final = 0  # the request's body
WAIT: Final = 1  # for a slot
TRITON: Final = 2  # from the first byte of the request to Triton to the last byte of its response
WRITE: Final = 3  # the response
STAGES: Final = ("read", "wait", "triton", "write")

Headers = Sequence[tuple[str, str]]


class RequestRecord:
    """One request. `seconds` has the duration of each stage; concurrent work of one stage counts once.

    `route` is a path template, never a path from a client, and `model` is a known model: both are labels of metrics.
    `code` is an error's stable code, or "". `trace_headers` are the trace context of the incoming request.
    """

    route = ""
    model = ""
    status = 0  # no response was sent
    has_response_begun = False  # whether the response has begun
    code = ""
    total_s = 0.0
    received_bytes = 0
    sent_bytes = 0
    is_body_whole = False
    is_cancelled = False  # whether the work at Triton was cancelled because the client disconnected
    is_traced = False
    trace_headers: Headers = ()
    texts: Mapping[str, str] | None = None  # the request's texts, if `access_log_prompts` is on
    stage: Enum | None = None  # of the request pipeline: see `endpoints/pipeline.py`

    def __init__(self, method: str, path: bytes = b"") -> None:
        self.method = method
        self.path = path  # as sent, percent-encoded
        self.started = perf_counter()
        self.seconds = [0.0, 0.0, 0.0, 0.0]
        self._depths = [0, 0, 0, 0]

    def begin(self, stage: int) -> None:
        """Work of this stage begins, possibly concurrently with other work of the stage."""
        depths = self._depths
        depths[stage] += 1
        if depths[stage] == 1:
            self.seconds[stage] -= perf_counter()

    def end(self, stage: int) -> None:
        """Work of this stage ends."""
        depths = self._depths
        depths[stage] -= 1
        if not depths[stage]:
            self.seconds[stage] += perf_counter()

    def server_timing(self, now: float) -> bytes:
        """The header `Server-Timing`: the stages so far, in milliseconds."""
        read_s, wait_s, triton_s, _ = self.seconds
        if self._depths[WAIT]:
            wait_s += now
        if self._depths[TRITON]:
            triton_s += now
        return b"read;dur=%.1f, wait;dur=%.1f, triton;dur=%.1f, total;dur=%.1f" % (
            1e3 * read_s,
            1e3 * wait_s,
            1e3 * triton_s,
            1e3 * (now - self.started),
        )


# Work outside of requests is recorded here and ignored.
_UNREAD = RequestRecord("")
current_record: ContextVar[RequestRecord] = ContextVar("current_record", default=_UNREAD)


def record_error(error: FastAPITritonError) -> None:
    """Record the error with which the current request ends. The status of a stream was sent before and stays."""
    current_record.get().code = error.code


class Stage:
    """Times a stage: `with Stage(TRITON, model):`. If the request is traced, the stage gets its own span."""

    __slots__ = ("_kind", "_model", "_record", "_span")

    def __init__(self, kind: int, model: str = "") -> None:
        self._kind = kind
        self._model = model
        self._record = current_record.get()
        self._span: trace.Span | None = None

    def __enter__(self) -> Self:
        record = self._record
        record.begin(self._kind)
        if record.is_traced:
            self._span = trace.get_tracer("fastapi_triton").start_span(
                STAGES[self._kind],
                kind=trace.SpanKind.CLIENT if self._kind == TRITON else trace.SpanKind.INTERNAL,
                attributes={"triton.model_name": self._model} if self._model else None,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        self._record.end(self._kind)
        if self._span is not None:
            if error is not None:
                code = error.code if isinstance(error, FastAPITritonError) else type(error).__name__
                self._span.set_attribute("error.type", code)
                self._span.set_status(trace.StatusCode.ERROR)
            self._span.end()

    @property
    def trace_headers(self) -> Headers:
        """The headers `traceparent` and `tracestate` for Triton, whose spans continue this trace."""
        return self._record.trace_headers if self._span is None else _headers(trace.set_span_in_context(self._span))


def request_trace_headers() -> Headers:
    """The trace headers outside of a stage: Triton's spans continue the request's own span."""
    record = current_record.get()
    return _headers(None) if record.is_traced else record.trace_headers


def _headers(context: Context | None) -> Headers:
    carrier: dict[str, str] = {}
    propagate.inject(carrier, context)
    return list(carrier.items())
