# SPDX-License-Identifier: Apache-2.0
"""A request's span has the template of its route, and the class of the exception behind a 500."""

from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import main
from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.testing import FakeTriton
from fastapi_triton.triton.client import Tensors
from fastapi_triton.triton.tensor import Tensor
from support.app_on_socket import listening
from support.scribble_app import MODEL, PATH
from support.scripted_triton import INFER, REQUEST, scripted_triton


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def telemetry(exporter: InMemorySpanExporter) -> dict[str, Any]:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return {"tracer_provider": provider, "tracing": True}


async def post(app: TritonFrontend, path: str, body: Any) -> httpx2.Response:
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as http:
        return await http.post(path, json=body)


def request_span(exporter: InMemorySpanExporter) -> ReadableSpan:
    (span,) = [span for span in exporter.get_finished_spans() if "http.request.method" in (span.attributes or {})]
    return span


async def test_the_span_of_a_500_has_the_class_of_the_exception(
    exporter: InMemorySpanExporter, telemetry: dict[str, Any]
) -> None:
    app = TritonFrontend(triton=FakeTriton(), settings=Settings(), telemetry=telemetry)

    @app.post("/own")
    async def own() -> None:
        raise KeyError("a bug")

    assert (await post(app, "/own", {})).status_code == 500
    span = request_span(exporter)
    assert span.name == "POST /own"
    assert dict(span.attributes or {}).items() >= {"http.response.status_code": 500, "error.type": "KeyError"}.items()


async def test_the_span_of_a_500_of_a_declared_endpoint_has_the_class_of_the_exception(
    exporter: InMemorySpanExporter, telemetry: dict[str, Any], triton: FakeTriton, body: Callable[..., dict[str, Any]]
) -> None:
    async def fail(_: Tensors) -> dict[str, Tensor]:
        raise ZeroDivisionError

    triton.models[MODEL].respond = fail
    app = TritonFrontend(triton=triton, settings=Settings(), telemetry=telemetry)
    app.infer(PATH, model=MODEL, request=main.ScribbleRequest, response=main.ScribbleResponse)
    assert (await post(app, PATH, body())).status_code == 500
    span = request_span(exporter)
    assert span.name == f"POST {PATH}"
    assert (span.attributes or {})["error.type"] == "ZeroDivisionError"


async def test_the_span_of_an_expected_error_has_no_exception(
    exporter: InMemorySpanExporter, telemetry: dict[str, Any]
) -> None:
    app = TritonFrontend(triton=FakeTriton(), settings=Settings(), telemetry=telemetry)
    app.infer(PATH, model=MODEL, request=main.ScribbleRequest, response=main.ScribbleResponse)
    assert (await post(app, PATH, {})).status_code == 422
    span = request_span(exporter)
    assert (span.name, "error.type" in (span.attributes or {})) == (f"POST {PATH}", False)


async def test_the_span_of_a_v2_request_has_the_template_of_its_route(
    exporter: InMemorySpanExporter, telemetry: dict[str, Any]
) -> None:
    async with scripted_triton() as upstream:
        app = TritonFrontend(settings=Settings(triton_url=upstream.url, metrics=False), telemetry=telemetry)
        async with listening(app) as caller:
            await caller.post(INFER, content=REQUEST)
    span = request_span(exporter)
    assert span.name == "POST /v2/models/{model}/infer"
    assert (span.attributes or {})["http.route"] == "/v2/models/{model}/infer"
