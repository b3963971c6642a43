# SPDX-License-Identifier: Apache-2.0
"""A collector for OpenTelemetry's exporters that keeps the spans."""

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True, slots=True)
class Span:
    """A span as tests need it; ids are hexadecimal."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]


@dataclass
class Collector:
    """Keeps spans; `wait_for` waits for a span with a given name."""

    url: str = ""
    spans: list[Span] = field(default_factory=list)
    grown: threading.Condition = field(default_factory=threading.Condition)

    def take(self, body: bytes, content_type: str) -> None:
        found = _from_json(json.loads(body)) if "json" in content_type else _from_protobuf(body)
        with self.grown:
            self.spans += found
            self.grown.notify_all()

    def wait_for(self, name: str, *, trace_id: str = "", timeout_s: float = 60) -> Span:
        with self.grown:
            found: list[Span] = []

            def is_there() -> bool:
                found[:] = [each for each in self.spans if each.name == name and trace_id in ("", each.trace_id)]
                return bool(found)

            assert self.grown.wait_for(is_there, timeout_s), f"no span {name} among {self.spans}"
            return found[-1]


def _from_protobuf(body: bytes) -> list[Span]:
    request = ExportTraceServiceRequest.FromString(body)
    return [
        Span(
            next((each.value.string_value for each in of.resource.attributes if each.key == "service.name"), ""),
            span.name,
            span.trace_id.hex(),
            span.span_id.hex(),
            span.parent_span_id.hex(),
            {each.key: each.value.string_value or each.value.int_value for each in span.attributes},
        )
        for of in request.resource_spans
        for scope in of.scope_spans
        for span in scope.spans
    ]


def _from_json(body: dict[str, Any]) -> list[Span]:
    return [
        Span(
            "triton",
            span["name"],
            span["traceId"],
            span["spanId"],
            span.get("parentSpanId", ""),
            {each["key"]: next(iter(each["value"].values())) for each in span.get("attributes", ())},
        )
        for of in body["resourceSpans"]
        for scope in of["scopeSpans"]
        for span in scope["spans"]
    ]


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            collector.take(body, self.headers["Content-Type"])
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector.url = f"http://127.0.0.1:{server.server_port}"
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        yield collector
    finally:
        server.shutdown()
        serving.join()
        server.server_close()
