# SPDX-License-Identifier: Apache-2.0
"""The scribble app with background jobs, on a fake Triton with a scripted stream model."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.middleware import Middleware

from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.jobs import dbos_queue
from fastapi_triton.testing import FakeTriton
from fastapi_triton.triton.model_config import ModelConfig
from support import scripted_stream_model
from support.jobs_client import Client, WithCaller
from support.scripted_stream_model import ScriptedStreamModel, app_of


@pytest.fixture(autouse=True)
def short_poll_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dbos_queue, "_POLL_S", 0.02)


@pytest.fixture
async def stream_model() -> ScriptedStreamModel:
    return ScriptedStreamModel()


@pytest.fixture
def triton(scribble_config: ModelConfig, stream_model: ScriptedStreamModel) -> FakeTriton:
    fake = FakeTriton()
    fake.add(scribble_config)
    fake.add(scripted_stream_model.stream_model_config(scribble_config), respond_stream=stream_model)
    return fake


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(jobs_folder=str(tmp_path / "jobs"), max_in_flight=2, max_waiting=0)


@pytest.fixture
def running(triton: FakeTriton, body: Callable[..., dict[str, Any]]) -> Callable[[Settings], Any]:
    """Runs an app with these settings and gives a client. One app at a time."""

    @asynccontextmanager
    async def run(settings: Settings) -> AsyncIterator[Client]:
        app: TritonFrontend = app_of(triton, settings)
        async with app.router.lifespan_context(app):
            client = Client.__new__(Client)
            app.user_middleware.insert(-1, Middleware(WithCaller, client=client))  # runs after the authentication
            transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
            async with httpx2.AsyncClient(transport=transport, base_url="http://test") as http:
                client.__init__(http, body)  # type: ignore[misc]
                yield client

    return run


@pytest.fixture
async def client(running: Callable[[Settings], Any], settings: Settings) -> AsyncIterator[Client]:
    async with asyncio.timeout(60), running(settings) as each:
        yield each
