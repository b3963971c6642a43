# SPDX-License-Identifier: Apache-2.0
"""A model's process dies: readiness, streams, metrics and `/v2`, with Triton 2.51 and the current version."""

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest
from pydantic import BaseModel

from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.triton import process_check
from fastapi_triton.triton.http_client import HTTPTriton
from fastapi_triton.triton.model_health import CODE, Counts
from support.app_on_socket import listening
from support.prometheus_scrape import scrape
from support.received_events import events_of
from support.triton_with_processes import CURRENT, DIED, OLD, TritonWithProcesses, triton_with_processes

V2_BODY = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["hi"]}]}


class Text(BaseModel):
    text: str


@pytest.fixture(params=[OLD, CURRENT])
async def triton(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TritonWithProcesses]:
    monkeypatch.setattr(process_check, "SETTLE_S", 0.0)
    async with triton_with_processes(request.param) as triton:
        yield triton


def app_of(triton: TritonWithProcesses, *, is_declared: bool) -> TritonFrontend:
    app = TritonFrontend(settings=Settings(triton_url=triton.url, watch_interval_s=0.02), generate=not is_declared)
    if is_declared:
        app.infer("/echo", model="echo", request=Text, response=Text)
    return app


async def readiness(http: httpx2.AsyncClient) -> tuple[int, str, str]:
    response = await http.get("/health/ready")
    first = response.json()["endpoints"][0]
    return response.status_code, first.get("code", "ok"), first.get("detail", "")


async def until(http: httpx2.AsyncClient, code: str) -> None:
    while (await readiness(http))[1] != code:  # noqa: ASYNC110  # there is no event for a poll
        await asyncio.sleep(0.01)


async def until_shown(http: httpx2.AsyncClient, ready: float) -> None:
    while (await scrape(http)).of("fastapi_triton_model_ready", model="echo") != ready:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def until_statistics_are_read(app: TritonFrontend, triton: TritonWithProcesses) -> None:
    """Wait until the frontend has read the statistics that the model has now."""
    assert isinstance(app.triton, HTTPTriton)
    counts = Counts(triton.answered, triton.failed, triton.executed)
    while app.triton.processes.counts("echo") != counts:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("is_declared", [True, False])
async def test_readiness_reports_a_dead_process_until_the_model_is_reloaded(
    triton: TritonWithProcesses, *, is_declared: bool
) -> None:
    app = app_of(triton, is_declared=is_declared)
    path, body = ("/echo", {"text": "hi"}) if is_declared else ("/models/echo/infer", {"text": ["hi"]})
    async with listening(app) as http:
        await until(http, "ok")
        for _ in range(3):
            await until_statistics_are_read(app, triton)
            triton.die()
            if triton.version == OLD:  # only a failed request shows it
                assert (await http.post(path, json=body)).json()["code"] == CODE
            await until(http, CODE)
            status, _, detail = await readiness(http)
            assert status == 503
            assert "echo" in detail
            assert (await http.post(path, json=body)).json()["code"] == CODE
            await until_shown(http, 0)
            triton.load()
            await until(http, "ok")
            await until_shown(http, 1)
            assert (await http.post(path, json=body)).status_code == 200


@pytest.mark.parametrize("path", ["/v2/models/echo/infer", "/v2/models/echo/generate_stream"])
async def test_death_seen_by_v2_makes_the_endpoint_unready(triton: TritonWithProcesses, path: str) -> None:
    app = app_of(triton, is_declared=True)
    async with listening(app) as http:
        await until(http, "ok")
        await until_statistics_are_read(app, triton)
        triton.die()
        body = V2_BODY if path.endswith("/infer") else {"text": "hi"}
        response = await http.post(path, json=body)
        assert DIED in response.text  # Triton's own text is kept
        await until(http, CODE)


async def test_model_error_that_resembles_a_death_is_not_one(triton: TritonWithProcesses) -> None:
    app = app_of(triton, is_declared=True)
    async with listening(app) as http:
        await until(http, "ok")
        await until_statistics_are_read(app, triton)
        triton.model_says = DIED
        for _ in range(3):
            assert (await http.post("/v2/models/echo/infer", json=V2_BODY)).status_code == 500
            assert (await http.post("/v2/models/echo/generate_stream", json={"text": "hi"})).status_code == 400
            assert (await http.post("/echo", json={"text": "hi"})).json()["code"] == "inference_failed"
            assert (await readiness(http))[0] == 200


async def test_streams_end_with_an_error_event(triton: TritonWithProcesses) -> None:
    triton.is_decoupled = True
    app = app_of(triton, is_declared=False)
    async with listening(app) as http:
        await until(http, "ok")
        await until_statistics_are_read(app, triton)
        headers = {"Accept": "text/event-stream"}
        async with http.stream("POST", "/models/echo/infer", json={"text": "hi"}, headers=headers) as response:
            events = events_of(response)
            assert (await anext(events)).data == {"text": "begun"}
            await until_statistics_are_read(app, triton)
            triton.die()
            if triton.version == OLD:
                assert (await http.post("/models/echo/infer", json={"text": "hi"})).json()["code"] == CODE
            last = [event async for event in events if event.name][-1]
        assert (last.name, last.data["code"]) == ("error", CODE)


async def test_v2_stream_is_cut_off(triton: TritonWithProcesses) -> None:
    triton.is_decoupled = True
    app = app_of(triton, is_declared=False)
    async with listening(app) as http:
        await until(http, "ok")
        await until_statistics_are_read(app, triton)
        async with http.stream("POST", "/v2/models/echo/generate_stream", json={"text": "hi"}) as response:
            lines = response.aiter_lines()
            assert "begun" in await anext(lines)
            await until_statistics_are_read(app, triton)
            triton.die()
            if triton.version == OLD:
                assert (await http.post("/models/echo/infer", json={"text": "hi"})).json()["code"] == CODE
            with pytest.raises(httpx2.RemoteProtocolError):
                [line async for line in lines]
