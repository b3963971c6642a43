# SPDX-License-Identifier: Apache-2.0
"""The scribble app with and without its stream model, and generated endpoints, on a fake Triton and a real socket."""

from collections.abc import AsyncIterator

import httpx2
import pytest

import main
from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.testing import FakeTriton
from fastapi_triton.triton.model_config import ModelConfig
from support.app_on_socket import listening
from support.scribble_app import MODEL, paint
from support.scripted_stream_model import ScriptedStreamModel, app_of, stream_model_config
from support.slot_requests import PLAIN


@pytest.fixture
def triton(scribble_config: ModelConfig, stream_model: ScriptedStreamModel) -> FakeTriton:
    fake = FakeTriton()
    fake.add(scribble_config, paint)
    fake.add(stream_model_config(scribble_config), respond_stream=stream_model)
    return fake


@pytest.fixture
def settings() -> Settings:
    return Settings(max_in_flight=2, max_waiting=5, generate=True, watch_interval_s=3600)


@pytest.fixture
def app(triton: FakeTriton, settings: Settings) -> TritonFrontend:
    frontend = app_of(triton, settings)
    frontend.infer(PLAIN, model=MODEL, request=main.ScribbleRequest, response=main.ScribbleResponse)
    return frontend


@pytest.fixture
async def caller(app: TritonFrontend) -> AsyncIterator[httpx2.AsyncClient]:
    async with listening(app) as client:
        await app.registry.poll()
        yield client
