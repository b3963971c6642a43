# SPDX-License-Identifier: Apache-2.0
"""A real Triton loads, changes and unloads a model; its endpoint follows, without a restart."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import httpx2
import pytest

from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.core.errors import FastAPITritonError
from fastapi_triton.embedded.triton_process import EmbeddedTriton
from support import odd_repository
from support.model_watch import Changes
from support.problems import problem_of

pytestmark = pytest.mark.integration


class ExplicitTriton(EmbeddedTriton):
    """Loads only the models that it is asked to load."""

    def _command(self, folder: Path, shared_memory_prefix: str) -> list[str]:
        return [*super()._command(folder, shared_memory_prefix), "--model-control-mode=explicit"]


@pytest.fixture
async def triton(tmp_path: Path) -> AsyncIterator[ExplicitTriton]:
    odd_repository.add_model(tmp_path, "plain")
    async with ExplicitTriton.prepare(tmp_path) as server:
        yield server


async def control(triton: ExplicitTriton, verb: str) -> None:
    async with (
        aiohttp.ClientSession(triton.url) as session,
        session.post(f"/v2/repository/models/plain/{verb}") as response,
    ):
        assert response.status == 200, await response.text()


async def test_endpoint_appears_changes_and_disappears_with_its_model(triton: ExplicitTriton) -> None:
    app = TritonFrontend(settings=Settings(triton_url=triton.url, generate=True, watch_interval_s=3600))
    models = app.generated_models
    assert models is not None
    changes = models._on_change = Changes()
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://test") as http,
    ):
        async with asyncio.timeout(60):
            while True:
                try:
                    models.require_read()  # by its own task, which polls again in an hour
                    break
                except FastAPITritonError:
                    await asyncio.sleep(0.1)  # Triton's port is not open yet; there is no event for it
        problem_of(await http.post("/models/plain/infer", json={"x": 1}), 503)

        assert not models.entry("plain").is_unloaded  # it was never loaded
        await control(triton, "load")
        await app.registry.poll()
        assert not models.entry("plain").is_unloaded
        assert (await http.post("/models/plain/infer", json={"x": 1})).json() == {"x": 1.0}

        config = triton.model_repository / "plain" / "config.pbtxt"
        config.write_text(config.read_text().replace("TYPE_FP32 dims: [ 1 ]", "TYPE_INT32 dims: [ 1 ]"))
        await control(triton, "load")
        await app.registry.poll()
        assert (await http.post("/models/plain/infer", json={"x": 1})).json() == {"x": 1}
        problem_of(await http.post("/models/plain/infer", json={"x": 1.5}), 422)

        await control(triton, "unload")
        await app.registry.poll()
        problem_of(await http.post("/models/plain/infer", json={"x": 1}), 503)
        while models.entry("plain").statuses[0].state == "UNLOADING":
            await app.registry.poll()
        assert models.entry("plain").is_unloaded, models.entry("plain")  # jobs read this
    assert changes.num == 3
