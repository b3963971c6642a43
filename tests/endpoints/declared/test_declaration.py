# SPDX-License-Identifier: Apache-2.0
"""A declaration is held against the configs at the start, and again whenever they may have changed."""

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
    """Counts how often a config is asked for, and lets a test wait for the next time."""

    num_asked = 0

    def __init__(self) -> None:
        super().__init__()
        self.is_asked = asyncio.Event()

    async def config(self, model: str) -> ModelConfig:
        self.num_asked += 1
        self.is_asked.set()
        return await super().config(model)

    async def ready(self, model: str) -> bool:
        if not self.is_running:
            self.is_asked.set()  # it will not come to the config
        return await super().ready(model)

    async def looked_at(self, *, times: int = 2) -> None:
        """Somebody began to look at a config from now on so often: all looks but the last are over."""
        for _ in range(times):
            self.is_asked.clear()
            await self.is_asked.wait()


@pytest.fixture
def triton(scribble_config: ModelConfig) -> CountingTriton:
    fake = CountingTriton()
    fake.add(scribble_config, paint)
    return fake


def without_prompt(config: ModelConfig) -> ModelConfig:
    return replace(config, inputs=config.inputs[1:])


async def test_it_is_held_at_the_start_before_anyone_asks(
    app: TritonFrontend, triton: CountingTriton, caplog: pytest.LogCaptureFixture
) -> None:
    triton.models[MODEL].config = without_prompt(triton.models[MODEL].config)
    async with app.router.lifespan_context(app):
        await triton.is_asked.wait()
        await asyncio.sleep(0)
    assert f"{PATH} does not fit {MODEL}" in caplog.text
    assert "`ScribbleRequest.prompt`: the model" in caplog.text


async def test_requests_ask_for_no_config_once_it_is_held(
    client: httpx2.AsyncClient, triton: CountingTriton, body: Body
) -> None:
    await client.post(PATH, json=body())
    asked = triton.num_asked
    for _ in range(5):
        await client.post(PATH, json=body())
    assert triton.num_asked == asked


async def test_many_first_requests_ask_once(app: TritonFrontend, triton: CountingTriton) -> None:
    declaration = app.endpoints[0].declaration
    configs = await asyncio.gather(*(declaration.configs() for _ in range(10)))
    assert triton.num_asked == 1
    assert all(each is configs[0] for each in configs)


async def test_a_reload_is_noticed_by_the_watch(triton: CountingTriton, body: Body) -> None:
    app = TritonFrontend(triton=triton, settings=Settings(watch_interval_s=0.01))
    app.infer(PATH, model=MODEL, request=main.ScribbleRequest, response=main.ScribbleResponse)
    config = triton.models[MODEL].config
    transport = httpx2.ASGITransport(app=app)
    async with app.router.lifespan_context(app), httpx2.AsyncClient(transport=transport, base_url="http://t") as http:
        assert (await http.post(PATH, json=body())).status_code == 200
        triton.models[MODEL].config = without_prompt(config)  # and it was ready all the time
        await triton.looked_at()
        answer = await http.post(PATH, json=body())
        assert (answer.status_code, answer.json()["code"]) == (503, "contract_mismatch")
        triton.models[MODEL].config = config
        await triton.looked_at()
        assert (await http.post(PATH, json=body())).status_code == 200


async def test_a_reload_is_noticed_by_who_asks_for_readiness(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    assert (await client.get("/health/ready")).status_code == 200
    config = triton.models[MODEL].config
    triton.models[MODEL].config = without_prompt(config)
    state = (await client.get("/health/ready")).json()["endpoints"][0]
    assert state["code"] == "contract_mismatch"
    assert len(state["mismatches"]) == 1
    triton.models[MODEL].config = config
    assert (await client.get("/health/ready")).status_code == 200


async def test_a_triton_that_comes_back_with_another_config_is_noticed_by_the_next_request(
    client: httpx2.AsyncClient, triton: FakeTriton, body: Body
) -> None:
    assert (await client.post(PATH, json=body())).status_code == 200
    triton.is_running = False
    assert (await client.post(PATH, json=body())).status_code == 503
    triton.is_running = True
    triton.models[MODEL].config = without_prompt(triton.models[MODEL].config)
    answer = await client.post(PATH, json=body())
    assert (answer.status_code, answer.json()["code"]) == (503, "contract_mismatch")


async def test_what_triton_itself_refuses_has_the_config_looked_at_again(
    client: httpx2.AsyncClient, triton: CountingTriton, body: Body
) -> None:
    """A model was reloaded a moment ago: one request meets Triton's refusal, the next our words for it."""

    async def refuse(inputs: Tensors) -> dict[str, Tensor]:
        raise InvalidRequestError("expected 2 inputs but got 3", code="refused_by_triton")

    await client.post(PATH, json=body())
    triton.models[MODEL].respond = refuse
    triton.models[MODEL].config = without_prompt(triton.models[MODEL].config)
    assert (await client.post(PATH, json=body())).status_code == 422
    assert (await client.post(PATH, json=body())).json()["code"] == "contract_mismatch"


async def test_what_the_model_refuses_has_not(client: httpx2.AsyncClient, triton: CountingTriton, body: Body) -> None:
    async def refuse(inputs: Tensors) -> dict[str, Tensor]:
        raise InvalidRequestError("too rude", code="too_rude")

    await client.post(PATH, json=body())
    asked = triton.num_asked
    triton.models[MODEL].respond = refuse
    for _ in range(3):
        assert (await client.post(PATH, json=body())).status_code == 422
    assert triton.num_asked == asked


async def test_a_mismatch_is_logged_once_however_many_ask(
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
    told = [each.getMessage() for each in caplog.records if PATH in each.getMessage()]
    assert len([each for each in told if "does not fit" in each]) == 1
    assert told[-1] == f"{PATH} fits {MODEL} again"


async def test_a_mismatch_makes_its_endpoint_unready_and_not_the_process(
    app: TritonFrontend, client: httpx2.AsyncClient, triton: FakeTriton, body: Body
) -> None:
    class Wrong(BaseModel):
        nonsense: str

    app.infer("/wrong", model=MODEL, request=Wrong, response=main.ScribbleResponse)
    answer = await client.get("/health/ready")
    assert answer.status_code == 200
    told = answer.json()
    assert told["status"] == "partly ready"
    assert [(each["path"], each["ready"]) for each in told["endpoints"]] == [(PATH, True), ("/wrong", False)]
    assert (await client.post("/wrong", json={"nonsense": "x"})).status_code == 503
    assert (await client.post(PATH, json=body())).status_code == 200
    triton.is_running = False
    assert (await client.get("/health/ready")).status_code == 503


async def test_a_triton_that_was_away_is_looked_at_long_before_its_interval_is_over(triton: CountingTriton) -> None:
    frontend = TritonFrontend(triton=triton, settings=Settings(watch_interval_s=3600))
    frontend.infer(PATH, model=MODEL, request=main.ScribbleRequest, response=main.ScribbleResponse)
    triton.is_running = False
    async with frontend.router.lifespan_context(frontend):
        await triton.looked_at(times=1)
        triton.is_running = True
        async with asyncio.timeout(60):
            await triton.looked_at(times=1)
