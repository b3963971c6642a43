# SPDX-License-Identifier: Apache-2.0
"""An app with API keys of each kind, in front of a fake Triton."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.testing import FakeTriton
from fastapi_triton.triton.model_config import ModelConfig
from support.api_keys import DRAWS, RULES, WATCHES, block
from support.scribble_app import paint
from support.scripted_stream_model import ScriptedStreamModel, app_of, stream_model_config


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "keys.toml"
    file.write_text(
        block("draws", DRAWS, "requests_per_minute = 60", "burst = 3", "max_in_flight = 2")
        + block("watches", WATCHES, 'scopes = ["metrics", "docs"]')
        + block("rules", RULES, 'scopes = ["infer", "v2", "admin", "metrics", "docs"]')
    )
    return file


@pytest.fixture
def settings(key_file: Path) -> Settings:
    return Settings(max_body_bytes=200_000, max_in_flight=4, api_keys_file=str(key_file))


@pytest.fixture
def triton(scribble_config: ModelConfig) -> FakeTriton:
    fake = FakeTriton()
    fake.add(scribble_config, paint)
    fake.add(stream_model_config(scribble_config), respond_stream=ScriptedStreamModel())
    return fake


@pytest.fixture
def app(app_with: Callable[..., TritonFrontend]) -> TritonFrontend:
    return app_with()


@pytest.fixture
def app_with(triton: FakeTriton, settings: Settings) -> Callable[..., TritonFrontend]:
    """The scribble app, with some settings changed."""

    def make(**changes: object) -> TritonFrontend:
        return app_of(triton, settings.model_copy(update=changes))

    return make
