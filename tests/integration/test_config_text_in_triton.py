# SPDX-License-Identifier: Apache-2.0
"""A config read from its text equals the one that a real Triton returns, except for values that Triton adds."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fastapi_triton.core.errors import FastAPITritonError
from fastapi_triton.embedded.triton_process import EmbeddedTriton
from fastapi_triton.triton import config_text
from fastapi_triton.triton.http_client import HTTPTriton
from fastapi_triton.triton.model_config import ModelConfig, from_server
from support.odd_repository import ODD_MODELS
from support.paths import ROOT
from support.scribble_app import MODEL
from support.serving import Server

pytestmark = pytest.mark.integration


def from_text(folder: Path) -> ModelConfig:
    return from_server(config_text.read(folder / "config.pbtxt"))


async def loaded(client: HTTPTriton, model: str) -> ModelConfig:
    """The model's config, once Triton has loaded it."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await client.config(model)
            except FastAPITritonError:
                await asyncio.sleep(0.05)


@pytest.fixture
async def odd_triton() -> AsyncIterator[HTTPTriton]:
    async with EmbeddedTriton.prepare(ODD_MODELS) as triton, HTTPTriton(triton.url) as client:
        yield client


async def test_odd_configs_are_read_as_triton_reads_them(odd_triton: HTTPTriton) -> None:
    for name in ("nameless", "plain"):
        assert from_text(ODD_MODELS / name) == await loaded(odd_triton, name)
    # The file has no values that the model adds while it loads.
    text, live = from_text(ODD_MODELS / "auto"), await loaded(odd_triton, "auto")
    assert (text.name, text.max_batch_size, text.inputs, text.outputs) == ("auto", 0, (), ())
    assert (live.name, live.max_batch_size, len(live.inputs), len(live.outputs)) == ("auto", 4, 1, 1)


async def test_our_configs_are_read_as_triton_reads_them(scribble_server: Server) -> None:
    async with HTTPTriton(f"http://{scribble_server.triton_url}") as client:
        for name in (MODEL, f"{MODEL}_stream"):
            assert from_text(ROOT / "models" / name) == await client.config(name)
