# SPDX-License-Identifier: Apache-2.0
"""A server of pictures that edits name by their URLs."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from picture_server import Pictures


@pytest.fixture
async def pictures() -> AsyncIterator[Pictures]:
    server = Pictures()
    app = web.Application()
    app.router.add_get("/{path:.*}", server.serve)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    server.is_closing.set()
    await runner.cleanup()
