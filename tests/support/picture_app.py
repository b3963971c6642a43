# SPDX-License-Identifier: Apache-2.0
"""All APIs in one process: the scribble app with its stream model on a fake Triton, and a model with an input of every
datatype."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.testing import FakeTriton
from fastapi_triton.triton.client import Tensors
from fastapi_triton.triton.datatypes import DATATYPES
from fastapi_triton.triton.model_config import ModelConfig, TensorConfig
from fastapi_triton.triton.tensor import Tensor
from support.paths import ROOT
from support.scribble_app import MODEL, config_of_file
from support.scripted_stream_model import ScriptedStreamModel, app_of, stream_model_config

EVERYTHING = "everything"


def everything_config() -> ModelConfig:
    """A model with one optional input of each datatype, and outputs of the same names."""
    tensors = tuple(TensorConfig(each.wire, each, (-1,), optional=True) for each in DATATYPES)
    return ModelConfig(EVERYTHING, 0, tensors, tensors)


async def echo(inputs: Tensors) -> dict[str, Tensor]:
    return dict(inputs)


def triton_of(stream_model: ScriptedStreamModel) -> FakeTriton:
    fake = FakeTriton()
    public = config_of_file(ROOT / "models" / MODEL / "config.pbtxt")
    fake.add(public)
    fake.add(stream_model_config(public), respond_stream=stream_model)
    fake.add(everything_config(), echo)
    return fake


@asynccontextmanager
async def client_of(app: TritonFrontend) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        await app.registry.poll()
        yield client


@asynccontextmanager
async def every_family(**settings: Any) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of declared and generated endpoints, OpenAI Images and A1111."""
    app = app_of(
        triton_of(ScriptedStreamModel()),
        Settings(generate=True, watch_interval_s=3600, max_in_flight=10, max_waiting=0, **settings),
    )
    async with client_of(app) as client:
        yield client
