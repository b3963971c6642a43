# SPDX-License-Identifier: Apache-2.0
"""A frontend on a real socket, before a scripted Triton that serves one model's config."""

from collections.abc import AsyncIterator

import httpx2
import pytest

from fastapi_triton import Settings, TritonFrontend
from support.app_on_socket import listening
from support.raw_connection import RawConnection, raw_connection_to
from support.scripted_triton import ScriptedTriton, scripted_triton
from support.v2_requests import respond_with_config


@pytest.fixture
async def triton() -> AsyncIterator[ScriptedTriton]:
    async with scripted_triton() as scripted:
        scripted.script = lambda upstream: respond_with_config(upstream, scripted)
        yield scripted


@pytest.fixture
def settings(triton: ScriptedTriton) -> Settings:
    return Settings(triton_url=triton.url, watch_interval_s=3600, v2_compressed=True, max_body_bytes=4_000_000)


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    async with listening(TritonFrontend(settings=settings)) as one:
        yield one


@pytest.fixture
async def wire(client: httpx2.AsyncClient) -> AsyncIterator[RawConnection]:
    async with raw_connection_to(client) as one:
        yield one
