# SPDX-License-Identifier: Apache-2.0
"""`/metrics`: requests by route, status and code, the time of their stages, and gauges."""

import asyncio
import re
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.testing import FakeTriton
from fastapi_triton.triton.client import Tensors
from fastapi_triton.triton.tensor import Tensor
from support.app_on_socket import listening
from support.paths import ROOT
from support.prometheus_scrape import scrape
from support.scribble_app import MODEL, PATH

Body = Callable[..., dict[str, Any]]
REQUESTS = "fastapi_triton_requests_total"
STAGES = "fastapi_triton_stage_duration_seconds_count"


async def test_requests_are_counted_by_route_model_status_and_code(caller: httpx2.AsyncClient, body: Body) -> None:
    for _ in range(3):
        await caller.post(PATH, json=body())
    await caller.post(PATH, json=body(prompt=""))
    numbers = await scrape(caller)
    labels = {"method": "POST", "route": PATH, "model": MODEL}
    assert numbers.of(REQUESTS, **labels, status="200", code="ok") == 3
    assert numbers.of(REQUESTS, **labels, status="422", code="too_short") == 1
    assert numbers.of("fastapi_triton_request_duration_seconds_count", **labels) == 4
    assert numbers.of(STAGES, **labels, stage="triton") == numbers.of(STAGES, **labels, stage="wait") == 3
    assert numbers.of(STAGES, **labels, stage="read") == 4
    assert numbers.of(STAGES, **labels, stage="write") == 4


async def test_received_and_sent_bytes_are_counted(caller: httpx2.AsyncClient, body: Body) -> None:
    response = await caller.post(PATH, json=body())
    numbers = await scrape(caller)
    assert numbers.of("fastapi_triton_received_bytes_total", route=PATH) == len(response.request.content)
    assert numbers.of("fastapi_triton_sent_bytes_total", route=PATH) == len(response.content)


async def test_no_label_contains_text_of_a_request(caller: httpx2.AsyncClient) -> None:
    for path in ("/unknown/path", "/models/unknown/infer", "/v2/models/unknown/infer", "/v2/unknown"):
        await caller.post(path, json={})
    await caller.request("PROPFIND", PATH)
    numbers = await scrape(caller)
    assert "unknown" not in str(numbers.samples)
    assert "PROPFIND" not in str(numbers.samples)
    assert numbers.of(REQUESTS, method="POST", route="", status="404", code="not_found") == 4
    assert numbers.of(REQUESTS, method="OTHER", status="405", code="method_not_allowed") == 1


async def test_an_unhandled_exception_is_counted_as_internal_error(app: TritonFrontend) -> None:
    @app.get("/bug/{name}")
    async def bug(name: str) -> None:
        raise ValueError(name)

    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        response = await client.get("/bug/x")
        assert response.status_code == 500
        assert "total;dur=" in response.headers["server-timing"]
        numbers = await scrape(client)
    assert numbers.of(REQUESTS, route="/bug/{name}", status="500", code="internal_error") == 1


async def test_requests_in_flight_are_shown(
    app: TritonFrontend, triton: FakeTriton, caller: httpx2.AsyncClient, body: Body
) -> None:
    is_running, may_end = asyncio.Event(), asyncio.Event()
    paint = triton.models[MODEL].respond
    assert paint is not None

    async def hold(inputs: Tensors) -> dict[str, Tensor]:
        is_running.set()
        await may_end.wait()
        return await paint(inputs)

    triton.models[MODEL].respond = hold
    task = asyncio.create_task(caller.post(PATH, json=body()))
    await is_running.wait()
    numbers = await scrape(caller)
    assert numbers["fastapi_triton_in_flight"] == 1
    assert numbers["fastapi_triton_max_in_flight"] == 2
    may_end.set()
    assert (await task).status_code == 200
    assert (await scrape(caller))["fastapi_triton_in_flight"] == 0


async def test_the_state_of_triton_and_its_models_is_shown(caller: httpx2.AsyncClient, triton: FakeTriton) -> None:
    await caller.get("/health/ready")
    numbers = await scrape(caller)
    assert (numbers["fastapi_triton_triton_up"], numbers["fastapi_triton_open_breakers"]) == (1, 0)
    assert numbers.of("fastapi_triton_model_ready", model=MODEL) == 1
    triton.models[MODEL].is_ready = False
    await caller.get("/health/ready")
    numbers = await scrape(caller)
    assert numbers["fastapi_triton_triton_up"] == 1
    assert numbers.of("fastapi_triton_model_ready", model=MODEL) == 0
    triton.is_running = False
    numbers = await scrape(caller)
    assert (numbers["fastapi_triton_triton_up"], numbers["fastapi_triton_open_breakers"]) == (0, 1)


async def test_the_process_and_the_event_loop_are_measured(app: TritonFrontend, caller: httpx2.AsyncClient) -> None:
    numbers = await scrape(caller)
    while not numbers["fastapi_triton_event_loop_lag_seconds_count"]:  # once a second
        await asyncio.sleep(0.05)
        numbers = await scrape(caller)
    assert numbers["process_resident_memory_bytes"] > 1e6
    assert numbers["process_cpu_seconds_total"] > 0
    assert numbers["fastapi_triton_info"] == 1


async def test_the_reference_page_lists_exactly_the_metrics_of_the_app(
    app: TritonFrontend, caller: httpx2.AsyncClient
) -> None:
    text = (await caller.get("/metrics")).text
    exported = set(re.findall(r"# TYPE (fastapi_triton_\w+) ", text)) - set(re.findall(r"TYPE (\w+_created) ", text))
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    assert exported == set(re.findall(r"^- `(fastapi_triton_\w+)", page, re.MULTILINE))


async def test_openmetrics_is_returned_if_the_client_accepts_it(caller: httpx2.AsyncClient) -> None:
    response = await caller.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    assert response.text.endswith("# EOF\n")


@pytest.mark.parametrize("version", ["1.0.x", "a", "2.x", "1.0.0=", "\xb2", "9" * 5000])
async def test_a_media_type_with_an_invalid_version_is_ignored(caller: httpx2.AsyncClient, version: str) -> None:
    for media in ("application/openmetrics-text", "text/plain"):
        accept = f"{media};version={version}".encode("latin-1")
        response = await caller.get("/metrics", headers={b"Accept": accept})
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        response = await caller.get("/metrics", headers={b"Accept": accept + b", application/openmetrics-text"})
        assert response.headers["content-type"].startswith("application/openmetrics-text")


async def test_a_setting_turns_the_metrics_off(triton: FakeTriton) -> None:
    app = TritonFrontend(triton=triton, settings=Settings(metrics=False))
    async with listening(app) as client:
        assert (await client.get("/metrics")).status_code == 404
