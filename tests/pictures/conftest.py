# SPDX-License-Identifier: Apache-2.0
"""The scribble app with its stream model on a fake Triton, for OpenAI's and A1111's clients."""

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.testing import FakeTriton
from fastapi_triton.triton.model_config import ModelConfig
from support.app_on_socket import listening
from support.scripted_stream_model import ScriptedStreamModel, app_of, stream_model_config


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, in which pictures with URLs are stored."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def triton(scribble_config: ModelConfig, stream_model: ScriptedStreamModel) -> FakeTriton:
    fake = FakeTriton()
    fake.add(scribble_config)  # without a response: only its stream model is used
    fake.add(stream_model_config(scribble_config), respond_stream=stream_model)
    return fake


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"openai_api": True, "a1111_api": True})


@pytest.fixture
def app(triton: FakeTriton, settings: Settings) -> TritonFrontend:
    return app_of(triton, settings)


@pytest.fixture
async def socket_client(app: TritonFrontend) -> AsyncIterator[httpx2.AsyncClient]:
    """A client over a real socket, which can disconnect."""
    async with listening(app) as client:
        yield client
