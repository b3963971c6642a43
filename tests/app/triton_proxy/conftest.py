# SPDX-License-Identifier: Apache-2.0
"""A frontend on a real socket, in front of a scripted Triton."""

from collections.abc import AsyncIterator

import httpx2
import pytest

from fastapi_triton import Settings, TritonFrontend
from support.app_on_socket import listening
from support.raw_connection import RawConnection, raw_connection_to
from support.scripted_triton import ScriptedTriton, scripted_triton


@pytest.fixture
async def triton() -> AsyncIterator[ScriptedTriton]:
    async with scripted_triton() as scripted:
        yield scripted


@pytest.fixture
def settings(triton: ScriptedTriton) -> Settings:
    return Settings(
        triton_url=triton.url, max_in_flight=2, max_waiting=0, max_body_bytes=2_000_000, watch_interval_s=3600
    )


@pytest.fixture
def app(settings: Settings) -> TritonFrontend:
    return TritonFrontend(settings=settings)


@pytest.fixture
async def client(app: TritonFrontend) -> AsyncIterator[httpx2.AsyncClient]:
    async with listening(app) as client:
        yield client


@pytest.fixture
async def wire(client: httpx2.AsyncClient) -> AsyncIterator[RawConnection]:
    async with raw_connection_to(client) as one:
        yield one
