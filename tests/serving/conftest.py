# SPDX-License-Identifier: Apache-2.0
"""An app on our HTTP protocol, and one client."""

from collections.abc import AsyncIterator

import pytest

from support.raw_connection import RawConnection
from support.scripted_app import LIMITS, Running, ScriptedApp, echo, running


@pytest.fixture
async def app() -> ScriptedApp:
    return ScriptedApp(LIMITS, echo)


@pytest.fixture
async def server(app: ScriptedApp) -> AsyncIterator[Running]:
    async with running(app) as each:
        yield each


@pytest.fixture
async def wire(server: Running) -> RawConnection:
    return await server.wire()
