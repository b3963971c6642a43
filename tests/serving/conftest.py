# SPDX-License-Identifier: Apache-2.0
"""An app on our HTTP protocol, and one caller."""

from collections.abc import AsyncIterator

import pytest
from answering import LIMITS, Answering, Running, echo, running
from wires import Wire


@pytest.fixture
async def app() -> Answering:
    return Answering(LIMITS, echo)


@pytest.fixture
async def server(app: Answering) -> AsyncIterator[Running]:
    async with running(app) as each:
        yield each


@pytest.fixture
async def wire(server: Running) -> Wire:
    return await server.wire()
