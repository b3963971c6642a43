# SPDX-License-Identifier: Apache-2.0
"""The model registry follows models that are loaded, unloaded and changed while the frontend runs."""

import asyncio
from collections.abc import AsyncIterator, Callable

import httpx2
import pytest
from aiohttp import web
from pydantic import BaseModel

from benchmarks.frontend.many_models import StandIn
from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.core.errors import (
    ContractError,
    DeadlineExceededError,
    InferenceError,
    ModelNotReadyError,
    NotFoundError,
    TritonUnavailableError,
)
from fastapi_triton.endpoints.generated.models import GeneratedModels
from fastapi_triton.testing import FakeTriton
from fastapi_triton.triton import model_registry
from fastapi_triton.triton.client import ModelStatus
from fastapi_triton.triton.http_client import HTTPTriton
from fastapi_triton.triton.model_config import ModelConfig
from fastapi_triton.triton.model_registry import MAX_CHECKS, MAX_REFRESHES, ModelRegistry
from support.echo_models import echo, model, tensor
from support.model_watch import Changes
from support.problems import problem_of


@pytest.fixture
def triton() -> FakeTriton:
    fake = FakeTriton()
    fake.add(model("a", tensor("x")), echo)
    return fake


@pytest.fixture
def changes() -> Changes:
    return Changes()


class PolledModels(GeneratedModels):
    """Generated endpoints with a registry of their own."""

    def __init__(self, triton: FakeTriton, *, interval_s: float, on_change: Changes) -> None:
        self.registry = ModelRegistry(triton, interval_s=interval_s)
        super().__init__(self.registry, triton, on_change=on_change)

    async def poll(self) -> None:
        await self.registry.poll()


@pytest.fixture
def models(triton: FakeTriton, changes: Changes) -> PolledModels:
    return PolledModels(triton, interval_s=0.001, on_change=changes)


async def test_before_the_first_response_of_triton_a_model_is_unavailable_and_not_unknown(
    models: PolledModels, triton: FakeTriton
) -> None:
    triton.is_running = False
    with pytest.raises(TritonUnavailableError):
        models.endpoint("a")
    with pytest.raises(TritonUnavailableError):
        await models.poll()
    triton.is_running = True
    await models.poll()
    assert models.endpoint("a").config.name == "a"


async def test_loaded_models_appear_and_removed_models_disappear(
    models: PolledModels, triton: FakeTriton, changes: Changes
) -> None:
    await models.poll()
    triton.add(model("b", tensor("x")), echo)
    await models.poll()
    assert models.endpoint("b")
    del triton.models["b"]
    await models.poll()
    with pytest.raises(NotFoundError, match="no model `b`"):
        models.endpoint("b")
    assert changes.num == 3
    await models.poll()
    assert changes.num == 3


async def test_an_unloaded_model_is_not_ready(models: PolledModels, triton: FakeTriton) -> None:
    triton.models["a"].is_ready = False
    await models.poll()
    with pytest.raises(ModelNotReadyError):
        models.endpoint("a")
    assert models.entry("a").reason == "unavailable: unloaded"
    assert models.configs == []
    triton.models["a"].is_ready = True
    await models.poll()
    assert models.endpoint("a")


async def test_a_config_change_without_a_new_version_is_detected(
    models: PolledModels, triton: FakeTriton, changes: Changes
) -> None:
    await models.poll()
    triton.models["a"].config = model("a", tensor("y"))
    await models.poll()
    assert [each.name for each in models.endpoint("a").config.inputs] == ["y"]
    assert changes.num == 2


async def test_the_registry_polls_in_the_background(models: PolledModels, triton: FakeTriton, changes: Changes) -> None:
    async with models.registry.polling():
        await asyncio.wait_for(changes.came.wait(), 10)
        changes.came.clear()
        triton.is_running = False
        triton.add(model("b", tensor("x")), echo)
        triton.is_running = True
        await asyncio.wait_for(changes.came.wait(), 10)
        assert models.endpoint("b")


async def test_known_models_stay_while_triton_is_unreachable(models: PolledModels, triton: FakeTriton) -> None:
    await models.poll()
    triton.is_running = False
    with pytest.raises(TritonUnavailableError):
        await models.poll()
    assert models.endpoint("a")


class OddTriton(FakeTriton):
    """Cannot return the config of one model."""

    async def config(self, model: str) -> ModelConfig:
        if model == "odd":
            raise ContractError("`x` has the data_type TYPE_INVALID.", mismatches=["x"])
        return await super().config(model)


class LateTriton(FakeTriton):
    """Exceeds the deadline for each config when `is_late`."""

    is_late = False

    async def config(self, model: str) -> ModelConfig:
        if self.is_late:
            raise DeadlineExceededError("late")
        return await super().config(model)


async def test_a_config_after_the_deadline_changes_nothing(changes: Changes) -> None:
    triton = LateTriton()
    triton.add(model("a", tensor("x")), echo)
    models = PolledModels(triton, interval_s=1, on_change=changes)
    await models.poll()
    triton.is_late = True
    for _ in range(4):
        await models.poll()
    assert models.endpoint("a")


async def test_an_invalid_config_does_not_affect_other_models(changes: Changes) -> None:
    triton = OddTriton()
    triton.add(model("a", tensor("x")), echo)
    triton.add(model("odd", tensor("x")), echo)
    models = PolledModels(triton, interval_s=1, on_change=changes)
    await models.poll()
    assert models.endpoint("a")
    assert "TYPE_INVALID" in models.entry("odd").reason


class CountingTriton(FakeTriton):
    """Records the models whose config is requested."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []

    async def config(self, model: str) -> ModelConfig:
        self.fetched.append(model)
        return await super().config(model)


async def test_known_configs_are_read_again_a_few_at_a_time(changes: Changes) -> None:
    triton = CountingTriton()
    names = [f"m{number:02}" for number in range(2 * MAX_REFRESHES + 1)]
    seen: set[str] = set()
    for name in names:
        triton.add(model(name, tensor("x")), echo)
    models = PolledModels(triton, interval_s=1, on_change=changes)
    await models.poll()
    assert set(triton.fetched) == set(names)
    for _ in range(3):
        triton.fetched.clear()
        models.registry.refresh_soon()
        await models.poll()
        assert MAX_REFRESHES <= len(triton.fetched) <= MAX_REFRESHES + 1  # one more as a spot check
        seen.update(triton.fetched)
    assert seen == set(names)
    triton.fetched.clear()
    models.doubt(names[5])
    await models.poll()
    assert names[5] in triton.fetched


async def test_readiness_waits_for_the_models_and_the_openapi_document_follows_them(triton: FakeTriton) -> None:
    app = TritonFrontend(triton=triton, settings=Settings(generate=True, watch_interval_s=3600))
    triton.is_running = False
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://test") as http,
    ):
        assert (await http.get("/health/ready")).status_code == 503
        assert problem_of(await http.get("/models"), 503)["code"] == "triton_unavailable"
        assert problem_of(await http.post("/models/a/infer", json={"x": 1}), 503)["code"] == "triton_unavailable"
        triton.is_running = True
        await app.registry.poll()
        assert (await http.get("/health/ready")).json()["endpoints"] == [{"path": "/models", "ready": True}]
        assert "/models/a/infer" in (await http.get("/openapi.json")).json()["paths"]
        triton.models["a"].config = model("a", tensor("y"))
        triton.add(model("b", tensor("x")), echo)
        await app.registry.poll()
        document = (await http.get("/openapi.json")).json()
        assert "/models/b/infer" in document["paths"]
        assert set(document["components"]["schemas"]["models.a.Request"]["properties"]) == {"y"}


class TritonWithoutIndex(FakeTriton):
    """Rejects repository requests, as with `--http-restricted-api`."""

    async def index(self) -> list[ModelStatus]:
        raise InferenceError("Triton's list of models cannot be read.")


class Text(BaseModel):
    x: float


async def test_declared_endpoints_are_ready_without_the_list_of_models() -> None:
    triton = TritonWithoutIndex()
    triton.add(model("a", tensor("x")), echo)
    app = TritonFrontend(triton=triton, settings=Settings(generate=True))
    app.infer("/a", model="a", request=Text, response=Text)
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://test") as http,
    ):
        with pytest.raises(InferenceError):
            await app.registry.poll()
        assert (await http.get("/health/ready")).status_code == 200
        assert (await http.post("/a", json={"x": 1})).json() == {"x": 1.0}
        problem_of(await http.get("/models"), 502)


@pytest.fixture
async def stand_in() -> AsyncIterator[StandIn]:
    async with StandIn(200, config_s=0.001).running() as server:
        yield server


async def test_200_models_work_and_their_configs_are_fetched_in_parallel(stand_in: StandIn) -> None:
    app = TritonFrontend(settings=Settings(triton_url=stand_in.url, generate=True, watch_interval_s=3600))
    changes = Changes()
    assert app.generated_models is not None
    app.generated_models._on_change = changes
    async with app.router.lifespan_context(app):
        await asyncio.wait_for(changes.came.wait(), 60)
        assert stand_in.num_fetches == 200
        assert 1 < stand_in.most_at_once <= MAX_CHECKS
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as http:
            assert len((await http.get("/models")).json()["models"]) == 200
            for name in (stand_in.names[0], stand_in.names[-1]):
                response = await http.post(f"/models/{name}/infer", json={"limit": 1})
                assert response.json() == {"score": 0.5}
            paths = (await http.get("/openapi.json")).json()["paths"]
            assert all(f"/models/{name}/infer" in paths for name in stand_in.names)
            assert stand_in.num_fetches == 200  # requests fetch no config


class GarbledConfig(StandIn):
    """Responds with an invalid config."""

    text = ""

    async def _config(self, _: web.Request) -> web.Response:
        return web.Response(text=self.text)


class GarbledIndex(StandIn):
    """Responds with an invalid list of models, as from a wrong proxy."""

    text = ""

    async def _index(self, _: web.Request) -> web.Response:
        return web.Response(text=self.text)


async def test_an_invalid_config_is_a_bad_gateway() -> None:
    async with GarbledConfig(1).running() as server, HTTPTriton(server.url) as triton:
        for server.text in ("<html>", "[]", "{}", '{"name": "m", "input": [3]}', '{"name": "m", "input": [{}]}'):
            with pytest.raises(InferenceError, match="config of m"):
                await triton.config("m")


async def test_an_invalid_index_is_a_bad_gateway() -> None:
    async with GarbledIndex(1).running() as server, HTTPTriton(server.url) as triton:
        for server.text in ("<html>", "{}x", '["a"]', '[{"version": "1"}]', "3"):
            with pytest.raises(InferenceError, match="list of models"):
                await triton.index()


async def test_after_an_outage_all_configs_are_read_again_soon(triton: FakeTriton, changes: Changes) -> None:
    models = PolledModels(triton, interval_s=3600, on_change=changes)
    triton.is_running = False
    async with models.registry.polling():
        await asyncio.sleep(0)  # the first poll fails
        triton.is_running = True
        await changes.came.wait()  # long before the interval of an hour is over
    names = [f"m{number:02}" for number in range(2 * MAX_REFRESHES)]
    for name in names:
        triton.add(model(name, tensor("x")), echo)
    await models.poll()
    triton.is_running = False
    with pytest.raises(TritonUnavailableError):
        await models.poll()
    triton.is_running = True
    for name in names:
        triton.models[name].config = model(name, tensor("y"))
    await models.poll()
    assert {each.config.inputs[0].name for each in map(models.endpoint, names)} == {"y"}


async def test_a_request_after_an_idle_time_uses_the_changed_config(
    triton: FakeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index does not change, and the next poll is an hour later."""
    monkeypatch.setattr(model_registry, "GRACE_S", -3600.0)  # every config is old
    app = TritonFrontend(triton=triton, settings=Settings(generate=True, watch_interval_s=3600))
    app.infer("/a", model="a", request=Text, response=Text)
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://test") as http,
    ):
        await app.registry.poll()
        for path in ("/a", "/models/a/infer"):
            assert (await http.post(path, json={"x": 1})).status_code == 200
        triton.models["a"].config = model("a", tensor("y"))
        assert problem_of(await http.post("/a", json={"x": 1}), 503)["code"] == "contract_mismatch"
        problem_of(await http.post("/models/a/infer", json={"x": 1}), 422)
        assert (await http.get("/models/a")).json()["inputs"][0]["name"] == "y"


async def test_an_old_config_is_used_if_triton_does_not_respond_soon(
    triton: FakeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_registry, "REREAD_TIMEOUT_S", 0.0)
    registry = ModelRegistry(triton, interval_s=3600)
    registry.declare("a")
    config = await registry.config("a")

    async def never(_: FakeTriton, __: str) -> ModelConfig:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(FakeTriton, "config", never)
    found = registry.model("a")
    assert found is not None
    found.read_at -= 7200
    assert await registry.config("a") is config


async def test_a_status_change_of_a_model_starts_a_poll_at_once(
    triton: FakeTriton, changes: Changes, monkeypatch: pytest.MonkeyPatch
) -> None:
    callbacks: list[Callable[[str], None]] = []
    monkeypatch.setattr(FakeTriton, "subscribe", lambda _, on_change: callbacks.append(on_change))
    models = PolledModels(triton, interval_s=3600, on_change=changes)
    async with models.registry.polling():
        await changes.came.wait()
        changes.came.clear()
        triton.models["a"].is_ready = False
        callbacks[0]("a")
        await changes.came.wait()
    with pytest.raises(ModelNotReadyError):
        models.endpoint("a")
