# SPDX-License-Identifier: Apache-2.0
"""A scribble, the config of the stream model, and an address without a server."""

import pytest

from fastapi_triton.triton.model_config import ModelConfig
from support.paths import ROOT
from support.scribble_app import MODEL, config_of_file, picture
from support.serving import free_port


@pytest.fixture
def scribble() -> bytes:
    return picture()


@pytest.fixture
def stream_config() -> ModelConfig:
    return config_of_file(ROOT / "models" / f"{MODEL}_stream" / "config.pbtxt")


@pytest.fixture
def unused_url() -> str:
    return f"http://127.0.0.1:{free_port()}"
