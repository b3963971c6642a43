# SPDX-License-Identifier: Apache-2.0
"""The scribble app with its stream model, on the fake Triton."""

from collections.abc import AsyncIterator

import httpx2
import pytest

from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.testing import FakeTriton
from fastapi_triton.triton.model_config import ModelConfig
from support import scripted_stream_model
from support.app_on_socket import listening
from support.scripted_stream_model import ScriptedStreamModel, app_of


@pytest.fixture
def stream_model_config(scribble_config: ModelConfig) -> ModelConfig:
    return scripted_stream_model.stream_model_config(scribble_config)


@pytest.fixture
def triton(
    scribble_config: ModelConfig, stream_model_config: ModelConfig, stream_model: ScriptedStreamModel
) -> FakeTriton:
    fake = FakeTriton()
    fake.add(scribble_config)  # without a response: requests must go to the stream model
    fake.add(stream_model_config, respond_stream=stream_model)
    return fake


@pytest.fixture
def app(triton: FakeTriton, settings: Settings) -> TritonFrontend:
    return app_of(triton, settings)


@pytest.fixture
async def socket_client(app: TritonFrontend) -> AsyncIterator[httpx2.AsyncClient]:
    """A client over a real socket, so that it can disconnect."""
    async with listening(app) as client:
        yield client
