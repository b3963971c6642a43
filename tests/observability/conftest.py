# SPDX-License-Identifier: Apache-2.0
"""The scribble app on a real socket."""

from collections.abc import AsyncIterator

import httpx2
import pytest

from fastapi_triton import TritonFrontend
from support.app_on_socket import listening


@pytest.fixture
async def caller(app: TritonFrontend) -> AsyncIterator[httpx2.AsyncClient]:
    async with listening(app) as client:
        yield client
