# SPDX-License-Identifier: Apache-2.0
"""Measure the CPU of request recording: the middleware, metrics and access log.

`python -m benchmarks.frontend.request_recording`
"""

import logging
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from benchmarks.common.measurement_lock import measurement
from fastapi_triton.core.request_record import TRITON, Stage
from fastapi_triton.middleware.request_recording import Observer, RequestRecordingMiddleware
from fastapi_triton.observability import access_log
from fastapi_triton.observability.metrics import Metrics

BATCH, BATCHES = 500, 400
HEADERS = [
    (b"host", b"localhost:8080"),
    (b"accept", b"*/*"),
    (b"accept-encoding", b"gzip, deflate"),
    (b"user-agent", b"python"),
    (b"content-type", b"application/json"),
    (b"content-length", b"12"),
    (b"connection", b"keep-alive"),
]
ANSWER = [(b"content-length", b"2"), (b"content-type", b"application/json"), (b"vary", b"Accept")]


class Route:
    """Set the scope's entries as a router does."""

    path = "/echo"


async def plain(_: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": ANSWER})
    await send({"type": "http.response.body", "body": b"{}", "more_body": False})


async def with_stage(_: Scope, receive: Receive, send: Send) -> None:
    await receive()
    with Stage(TRITON, "echo") as stage:
        list(stage.trace_headers)
    await send({"type": "http.response.start", "status": 200, "headers": ANSWER})
    await send({"type": "http.response.body", "body": b"{}", "more_body": False})


async def receive() -> Message:
    return {"type": "http.request", "body": b"x" * 12, "more_body": False}


async def send(_: Message) -> None:
    return None


def microseconds(app: ASGIApp) -> float:
    """CPU time of a request in the fastest batch, because other work on the machine only adds to it."""
    return min(_batch(app) for _ in range(BATCHES)) / BATCH * 1e6


def _batch(app: ASGIApp) -> float:
    started = time.thread_time()
    for _ in range(BATCH):
        scope: dict[str, Any] = {
            "type": "http",
            "method": "POST",
            "path": "/echo",
            "raw_path": b"/echo",
            "headers": HEADERS,
            "route": Route,
        }
        _run(app(scope, receive, send))
    return time.thread_time() - started


def _run(work: Awaitable[None]) -> None:
    """Run a coroutine to its end without an event loop. It never waits."""
    steps = work.__await__()
    try:
        while True:
            next(steps)
    except StopIteration:
        return


def observing(*observers: Observer) -> ASGIApp:
    return RequestRecordingMiddleware(with_stage, observers)


def main() -> None:
    logging.getLogger().addHandler(logging.NullHandler())
    access_log.logger.setLevel(logging.INFO)
    cases: Sequence[tuple[str, Callable[[], ASGIApp]]] = (
        ("no recording", lambda: plain),
        ("request id, stages, Server-Timing", observing),
        ("with metrics", lambda: observing(Metrics().record)),
        ("with metrics and access log, unformatted", lambda: observing(Metrics().record, access_log.write)),
    )
    before = microseconds(plain)
    for name, make in cases:
        sys.stdout.write(f"{name:<40} {microseconds(make()) - before:6.1f} µs\n")


if __name__ == "__main__":
    with measurement():
        main()
