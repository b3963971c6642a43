# SPDX-License-Identifier: Apache-2.0
"""`/metrics`: requests by route, status and reason; where their time went; what stands at the moment."""

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


async def test_bytes_of_bodies_are_counted_both_ways(caller: httpx2.AsyncClient, body: Body) -> None:
    answer = await caller.post(PATH, json=body())
    numbers = await scrape(caller)
    assert numbers.of("fastapi_triton_received_bytes_total", route=PATH) == len(answer.request.content)
    assert numbers.of("fastapi_triton_sent_bytes_total", route=PATH) == len(answer.content)


async def test_no_label_is_made_of_what_a_caller_writes(caller: httpx2.AsyncClient) -> None:
    for path in ("/nobody/knows", "/models/nobody/infer", "/v2/models/nobody/infer", "/v2/nobody"):
        await caller.post(path, json={})
    await caller.request("PROPFIND", PATH)
    numbers = await scrape(caller)
    assert "nobody" not in str(numbers.samples)
    assert "PROPFIND" not in str(numbers.samples)
    assert numbers.of(REQUESTS, method="POST", route="", status="404", code="not_found") == 4
    assert numbers.of(REQUESTS, method="OTHER", status="405", code="method_not_allowed") == 1


async def test_a_bug_is_counted_as_one(app: TritonFrontend) -> None:
    @app.get("/bug/{name}")
    async def bug(name: str) -> None:
        raise ValueError(name)

    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.get("/bug/x")
        assert answer.status_code == 500
        assert "total;dur=" in answer.headers["server-timing"]
        numbers = await scrape(client)
    assert numbers.of(REQUESTS, route="/bug/{name}", status="500", code="internal_error") == 1


async def test_what_is_in_flight_is_seen_while_it_is(
    app: TritonFrontend, triton: FakeTriton, caller: httpx2.AsyncClient, body: Body
) -> None:
    is_running, may_end = asyncio.Event(), asyncio.Event()
    paint = triton.models[MODEL].respond
    assert paint is not None

    async def held(inputs: Tensors) -> dict[str, Tensor]:
        is_running.set()
        await may_end.wait()
        return await paint(inputs)

    triton.models[MODEL].respond = held
    asking = asyncio.create_task(caller.post(PATH, json=body()))
    await is_running.wait()
    numbers = await scrape(caller)
    assert numbers["fastapi_triton_in_flight"] == 1
    assert numbers["fastapi_triton_max_in_flight"] == 2
    may_end.set()
    assert (await asking).status_code == 200
    assert (await scrape(caller))["fastapi_triton_in_flight"] == 0


async def test_triton_and_its_models_are_up_or_not(caller: httpx2.AsyncClient, triton: FakeTriton) -> None:
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


async def test_the_page_names_every_metric_and_no_other(app: TritonFrontend, caller: httpx2.AsyncClient) -> None:
    text = (await caller.get("/metrics")).text
    there = set(re.findall(r"# TYPE (fastapi_triton_\w+) ", text)) - set(re.findall(r"TYPE (\w+_created) ", text))
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    assert there == set(re.findall(r"^\| `(fastapi_triton_\w+)", page, re.MULTILINE))


async def test_openmetrics_is_given_to_who_asks_for_it(caller: httpx2.AsyncClient) -> None:
    answer = await caller.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


@pytest.mark.parametrize("version", ["1.0.x", "a", "2.x", "1.0.0=", "\xb2", "9" * 5000])
async def test_a_version_that_is_none_is_as_if_it_were_not_asked_for(caller: httpx2.AsyncClient, version: str) -> None:
    for media in ("application/openmetrics-text", "text/plain"):
        accept = f"{media};version={version}".encode("latin-1")
        answer = await caller.get("/metrics", headers={b"Accept": accept})
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        answer = await caller.get("/metrics", headers={b"Accept": accept + b", application/openmetrics-text"})
        assert answer.headers["content-type"].startswith("application/openmetrics-text")


async def test_a_setting_turns_it_off(triton: FakeTriton) -> None:
    app = TritonFrontend(triton=triton, settings=Settings(metrics=False))
    async with listening(app) as client:
        assert (await client.get("/metrics")).status_code == 404
