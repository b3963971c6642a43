# SPDX-License-Identifier: Apache-2.0
"""A current Triton (release 26.09) rejects requests that 2.51 accepts, and reports dead processes itself."""

import asyncio
import logging
from collections.abc import AsyncIterator

import httpx2
import pytest
from pydantic import BaseModel

from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.triton import process_check
from fastapi_triton.triton.model_health import CODE
from support.app_on_socket import listening
from support.current_triton import MAX_DEPTH, CurrentTriton, current_triton
from support.prometheus_scrape import scrape
from support.triton_with_processes import CURRENT, OLD, SHARED_MEMORY_OFF, TritonWithProcesses, triton_with_processes

INFER, STREAM = "/v2/models/echo/infer", "/v2/models/echo/generate_stream"
NESTED = (
    b'{"inputs":[{"name":"text","datatype":"BYTES","shape":[1],"data":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}]}"
)
EVENTS = {"Accept": "text/event-stream"}


class Text(BaseModel):
    text: str


@pytest.fixture
async def triton() -> AsyncIterator[CurrentTriton]:
    async with current_triton() as triton:
        yield triton


def app_of(triton: TritonWithProcesses, *, declared: str = "", is_admin: bool = False) -> TritonFrontend:
    settings = Settings(triton_url=triton.url, watch_interval_s=0.02, v2_admin=is_admin)
    app = TritonFrontend(settings=settings, generate=not declared)
    if declared:
        app.infer("/declared", model=declared, request=Text, response=Text)
    return app


async def code_of_readiness(http: httpx2.AsyncClient) -> str:
    code: str = (await http.get("/health/ready")).json()["endpoints"][0].get("code", "ok")
    return code


async def until(http: httpx2.AsyncClient, code: str) -> None:
    while await code_of_readiness(http) != code:  # noqa: ASYNC110  # there is no event for a poll
        await asyncio.sleep(0.01)


async def until_shown(http: httpx2.AsyncClient, ready: float) -> None:
    while (await scrape(http)).of("fastapi_triton_model_ready", model="echo") != ready:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def logged(caplog: pytest.LogCaptureFixture, text: str) -> int:
    return sum(text in each.getMessage() for each in caplog.records)


# ---- dead processes


async def test_death_is_noticed_and_logged_once_without_any_request(
    triton: CurrentTriton, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(app_of(triton, declared="echo")) as http:
        await until_shown(http, 1)
        triton.die()
        await until_shown(http, 0)
        assert await code_of_readiness(http) == CODE
    assert not any(each.endswith("/infer") for each in triton.polls)
    assert logged(caplog, "its process has died") == 1


@pytest.mark.parametrize("version", [OLD, CURRENT])
async def test_only_unloading_and_loading_the_model_revives_it(
    version: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(process_check, "SETTLE_S", 0.0)
    async with (
        triton_with_processes(version) as triton,
        listening(app_of(triton, declared="echo", is_admin=True)) as http,
    ):
        await until(http, "ok")
        triton.die()
        while (await http.post("/declared", json={"text": "hi"})).json().get("code") != CODE:
            pass
        assert (await http.post("/v2/repository/models/echo/load")).status_code == 200
        assert await code_of_readiness(http) == CODE
        assert (await http.post("/declared", json={"text": "hi"})).json()["code"] == CODE
        for step in ("unload", "load"):
            assert (await http.post(f"/v2/repository/models/echo/{step}")).status_code == 200
        await until(http, "ok")
        assert (await http.post("/declared", json={"text": "hi"})).json() == {"text": "hi"}
    assert logged(caplog, "its process has died") == 1
    assert logged(caplog, "its process is running again") == 1


async def test_unknown_model_is_not_loaded_and_not_dead(triton: CurrentTriton) -> None:
    async with listening(app_of(triton, declared="nope")) as http:
        assert (await http.get("/v2/models/nope/ready")).status_code == 404
        assert await code_of_readiness(http) == "model_not_ready"
        response = await http.post("/declared", json={"text": "hi"})
        assert (response.status_code, response.json()["code"]) == (503, "model_not_ready")


# ---- rejected requests


async def test_rejected_shared_memory_is_relayed(triton: CurrentTriton) -> None:
    region = "/v2/systemsharedmemory/region/r"
    async with listening(app_of(triton, is_admin=True)) as http:
        for action in ("register", "unregister"):
            response = await http.post(f"{region}/{action}", json={"key": "/r", "byte_size": 4})
            assert (response.status_code, response.json()) == (501, {"error": SHARED_MEMORY_OFF})
        assert (await http.get(f"{region}/status")).status_code == 200


async def test_only_json_counts_towards_tritons_limit(triton: CurrentTriton) -> None:
    triton.max_input_bytes = 1000
    long = "x" * 2000
    async with listening(app_of(triton, declared="echo")) as http:
        assert (await http.post("/declared", json={"text": long})).status_code == 200  # sent as a binary tensor
        response = await http.post(STREAM, json={"text": long})
        assert response.status_code == 400
        assert "--http-max-input-size" in response.json()["error"]
    triton.is_decoupled = True
    async with listening(app_of(triton)) as http:
        await until(http, "ok")
        response = await http.post("/models/echo/infer", json={"text": long}, headers=EVENTS)
        assert (response.status_code, response.json()["code"]) == (413, "too_large")


async def test_empty_list_for_a_decoupled_model_is_rejected_by_the_name_of_its_field(triton: CurrentTriton) -> None:
    triton.is_decoupled = True
    async with listening(app_of(triton)) as http:
        await until(http, "ok")
        response = await http.post("/models/echo/infer", json={"text": "hi", "scales": []}, headers=EVENTS)
        assert response.status_code == 422
        (problem,) = response.json()["errors"]
        assert (problem["pointer"], problem["code"]) == ("#/scales", "empty_list")


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (NESTED, {}),
        (b'{"inputs":[],"outputs":[{"name":"text"},{"name":"text"}]}', {}),
        (b'{"inputs":[]}', {"Inference-Header-Content-Length": "13x"}),
    ],
    ids=["nested too deep", "an output twice", "no length"],
)
async def test_frontend_rejects_with_tritons_status_before_triton_does(
    triton: CurrentTriton, body: bytes, headers: dict[str, str]
) -> None:
    async with httpx2.AsyncClient() as direct, listening(app_of(triton)) as http:
        assert (await direct.post(triton.url + INFER, content=body, headers=headers)).status_code == 400
        assert (await http.post(INFER, content=body, headers=headers)).status_code == 400
    assert triton.num_rejected == 1
