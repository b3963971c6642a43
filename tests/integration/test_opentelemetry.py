# SPDX-License-Identifier: Apache-2.0
"""One trace from the client through the frontend into Triton, whose OpenTelemetry mode continues it."""

import os
import sys
from collections.abc import Iterator

import pytest

from support.serving import ECHO_APP, Server
from support.trace_collector import Collector, collecting

pytestmark = pytest.mark.integration

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
BODY = {"inputs": [{"name": "text", "shape": [1, 1], "datatype": "BYTES", "data": ["hi"]}]}


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def server(collector: Collector) -> Iterator[Server]:
    server = Server(
        [sys.executable, "-m", "fastapi_triton", "serve", "--embedded"],
        folder=ECHO_APP,
        environment={
            **os.environ,
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_SERVICE_NAME": "frontend",
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        },
    )
    try:
        yield server.wait_until_ready()
    finally:
        server.drop()


def trace_headers(trace_id: str) -> dict[str, str]:
    return {"traceparent": f"00-{trace_id}-{SPAN}-01", "X-Request-ID": "mine"}


def test_clients_trace_continues_in_the_frontend_and_triton(server: Server, collector: Collector) -> None:
    response = server.post("/echo", json={"text": "hi"}, headers=trace_headers(TRACE))
    assert response.status_code == 200
    request = collector.wait_for("POST /echo", trace_id=TRACE)
    assert (request.service, request.parent_id) == ("frontend", SPAN)
    assert request.attributes["http.route"] == "/echo"
    assert request.attributes["http.response.status_code"] == 200
    triton = collector.wait_for("triton", trace_id=TRACE)
    assert triton.parent_id == request.span_id
    assert triton.attributes["triton.model_name"] == "echo"
    inside = collector.wait_for("InferRequest", trace_id=TRACE)
    assert inside.parent_id == triton.span_id
    model = collector.wait_for("echo", trace_id=TRACE)
    assert model.attributes["triton.request_id"] == "mine"


def test_v2_requests_continue_the_trace(server: Server, collector: Collector) -> None:
    trace_id = TRACE[::-1]
    response = server.post("/v2/models/echo/infer", json=BODY, headers=trace_headers(trace_id))
    assert response.status_code == 200
    request = collector.wait_for("POST /v2/models/{model}/infer", trace_id=trace_id)
    assert request.parent_id == SPAN
    assert collector.wait_for("InferRequest", trace_id=trace_id).parent_id == request.span_id


def test_probes_are_not_traced_and_spans_have_no_prompts(server: Server, collector: Collector) -> None:
    server.get("/health/live")
    server.get("/metrics")
    server.post("/echo", json={"text": "a secret"})
    rejected = server.post("/echo", json={"txt": "a secret"}, headers=trace_headers("1" * 32))
    assert rejected.status_code == 422
    collector.wait_for("POST /echo", trace_id="1" * 32)
    assert not {each.name for each in collector.spans} & {"GET /health/live", "GET /metrics"}
    assert "secret" not in str(collector.spans)
