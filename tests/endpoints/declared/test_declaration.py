# SPDX-License-Identifier: Apache-2.0
"""A declaration is compared with the configs at the start, and again each time they may have changed."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from pydantic import BaseModel

import main
from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.core.errors import InvalidRequestError
from fastapi_triton.testing import FakeTriton
from fastapi_triton.triton.client import Tensors
from fastapi_triton.triton.model_config import ModelConfig
from fastapi_triton.triton.tensor import Tensor
from support.scribble_app import MODEL, PATH, paint

Body = Callable[..., dict[str, Any]]


class CountingTriton(FakeTriton):
    """Counts the requests for configs, and lets a test wait for the next one."""

    num_config_requests = 0

    def __init__(self) -> None:
        super().__init__()
        self.is_config_requested = asyncio.Event()

    async def config(self, model: str) -> ModelConfig:
        self.num_config_requests += 1
        self.is_config_requested.set()
        return await super().config(model)

    async def ready(self, model: str) -> bool:
        if not self.is_running:
            self.is_config_requested.set()  # no request for the config will follow
        return await super().ready(model)

    async def until_polled(self, *, times: int = 2) -> None:
        """Return when this many polls of a config have begun; all but the last have ended."""
        for _ in range(times):
            self.is_config_requested.clear()
            await self.is_config_requested.wait()


@pytest.fixture
def triton(scribble_config: ModelConfig) -> CountingTriton:
    fake = CountingTriton()
    fake.add(scribble_config, paint)
    return fake


def without_prompt(config: ModelConfig) -> ModelConfig:
    return replace(config, inputs=config.inputs[1:])


async def test_a_mismatch_is_logged_at_the_start_before_any_request(
    app: TritonFrontend, triton: CountingTriton, caplog: pytest.LogCaptureFixture
) -> None:
    triton.models[MODEL].config = without_prompt(triton.models[MODEL].config)
    async with app.router.lifespan_context(app):
        await triton.is_config_requested.wait()
        await asyncio.sleep(0)
    assert f"{PATH} does not fit {MODEL}" in caplog.text
    assert "`ScribbleRequest.prompt`: the model" in caplog.text


async def test_later_requests_do_not_read_the_config_again(
    client: httpx2.AsyncClient, triton: CountingTriton, body: Body
) -> None:
    await client.post(PATH, json=body())
    num_requests = triton.num_config_requests
    for _ in range(5):
        await client.post(PATH, json=body())
    assert triton.num_config_requests == num_requests


async def test_concurrent_first_requests_read_the_config_once(app: TritonFrontend, triton: CountingTriton) -> None:
    declaration = app.endpoints[0].declaration
    configs = await asyncio.gather(*(declaration.configs() for _ in range(10)))
    assert triton.num_config_requests == 1
    assert all(each is configs[0] for each in configs)


async def test_polling_notices_a_reloaded_model(triton: CountingTriton, body: Body) -> None:
    app = TritonFrontend(triton=triton, settings=Settings(watch_interval_s=0.01))
    app.infer(PATH, model=MODEL, request=main.ScribbleRequest, response=main.ScribbleResponse)
    config = triton.models[MODEL].config
    transport = httpx2.ASGITransport(app=app)
    async with app.router.lifespan_context(app), httpx2.AsyncClient(transport=transport, base_url="http://t") as http:
        assert (await http.post(PATH, json=body())).status_code == 200
        triton.models[MODEL].config = without_prompt(config)  # it stays ready meanwhile
        await triton.until_polled()
        response = await http.post(PATH, json=body())
        assert (response.status_code, response.json()["code"]) == (503, "contract_mismatch")
        triton.models[MODEL].config = config
        await triton.until_polled()
        assert (await http.post(PATH, json=body())).status_code == 200


async def test_a_readiness_probe_notices_a_reloaded_model(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    assert (await client.get("/health/ready")).status_code == 200
    config = triton.models[MODEL].config
    triton.models[MODEL].config = without_prompt(config)
    state = (await client.get("/health/ready")).json()["endpoints"][0]
    assert state["code"] == "contract_mismatch"
    assert len(state["mismatches"]) == 1
    triton.models[MODEL].config = config
    assert (await client.get("/health/ready")).status_code == 200


async def test_the_next_request_notices_that_a_restarted_triton_has_another_config(
    client: httpx2.AsyncClient, triton: FakeTriton, body: Body
) -> None:
    assert (await client.post(PATH, json=body())).status_code == 200
    triton.is_running = False
    assert (await client.post(PATH, json=body())).status_code == 503
    triton.is_running = True
    triton.models[MODEL].config = without_prompt(triton.models[MODEL].config)
    response = await client.post(PATH, json=body())
    assert (response.status_code, response.json()["code"]) == (503, "contract_mismatch")


async def test_a_request_that_triton_rejects_makes_the_next_one_read_the_config(
    client: httpx2.AsyncClient, triton: CountingTriton, body: Body
) -> None:
    """After a reload, the first request gets Triton's error, and the next the list of mismatches."""

    async def reject(inputs: Tensors) -> dict[str, Tensor]:
        raise InvalidRequestError("expected 2 inputs but got 3", code="refused_by_triton")

    await client.post(PATH, json=body())
    triton.models[MODEL].respond = reject
    triton.models[MODEL].config = without_prompt(triton.models[MODEL].config)
    assert (await client.post(PATH, json=body())).status_code == 422
    assert (await client.post(PATH, json=body())).json()["code"] == "contract_mismatch"


async def test_a_request_that_the_model_rejects_keeps_the_config(
    client: httpx2.AsyncClient, triton: CountingTriton, body: Body
) -> None:
    async def reject(inputs: Tensors) -> dict[str, Tensor]:
        raise InvalidRequestError("too rude", code="too_rude")

    await client.post(PATH, json=body())
    num_requests = triton.num_config_requests
    triton.models[MODEL].respond = reject
    for _ in range(3):
        assert (await client.post(PATH, json=body())).status_code == 422
    assert triton.num_config_requests == num_requests


async def test_a_mismatch_is_logged_once_for_many_requests(
    client: httpx2.AsyncClient, triton: FakeTriton, body: Body, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    config = triton.models[MODEL].config
    triton.models[MODEL].config = without_prompt(config)
    for _ in range(3):
        await client.get("/health/ready")
        assert (await client.post(PATH, json=body())).status_code == 503
    triton.models[MODEL].config = config
    await client.get("/health/ready")
    messages = [each.getMessage() for each in caplog.records if PATH in each.getMessage()]
    assert len([each for each in messages if "does not fit" in each]) == 1
    assert messages[-1] == f"{PATH} fits {MODEL} again"


async def test_a_mismatch_makes_only_its_endpoint_unready(
    app: TritonFrontend, client: httpx2.AsyncClient, triton: FakeTriton, body: Body
) -> None:
    class Wrong(BaseModel):
        nonsense: str

    app.infer("/wrong", model=MODEL, request=Wrong, response=main.ScribbleResponse)
    response = await client.get("/health/ready")
    assert response.status_code == 200
    state = response.json()
    assert state["status"] == "partly ready"
    assert [(each["path"], each["ready"]) for each in state["endpoints"]] == [(PATH, True), ("/wrong", False)]
    assert (await client.post("/wrong", json={"nonsense": "x"})).status_code == 503
    assert (await client.post(PATH, json=body())).status_code == 200
    triton.is_running = False
    assert (await client.get("/health/ready")).status_code == 503


async def test_an_unavailable_triton_is_polled_more_often_than_the_interval(triton: CountingTriton) -> None:
    frontend = TritonFrontend(triton=triton, settings=Settings(watch_interval_s=3600))
    frontend.infer(PATH, model=MODEL, request=main.ScribbleRequest, response=main.ScribbleResponse)
    triton.is_running = False
    async with frontend.router.lifespan_context(frontend):
        await triton.until_polled(times=1)
        triton.is_running = True
        async with asyncio.timeout(60):
            await triton.until_polled(times=1)
