# SPDX-License-Identifier: Apache-2.0
"""The app below Ray's proxy shuts down in phases, as on one machine. Tested without Ray."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
from pydantic import BaseModel

from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.serving.ray_serve.ingress import Ingress
from fastapi_triton.testing import FakeTriton
from fastapi_triton.triton.client import Tensors
from fastapi_triton.triton.model_config import from_server
from fastapi_triton.triton.tensor import Tensor

TEXT = {"name": "text", "data_type": "TYPE_STRING", "dims": [1]}
CONFIG = from_server({"name": "echo", "max_batch_size": 0, "input": [TEXT], "output": [TEXT]})


class Text(BaseModel):
    text: str


class Held:
    """The model `echo`, which waits until `go` is set."""

    def __init__(self) -> None:
        self.began, self.go = asyncio.Event(), asyncio.Event()

    async def run(self, inputs: Tensors) -> dict[str, Tensor]:
        self.began.set()
        await self.go.wait()
        return dict(inputs)


@asynccontextmanager
async def ingress(model: Held, **settings: float) -> AsyncIterator[tuple[Ingress, httpx2.AsyncClient]]:
    chosen = Settings(watch_interval_s=60, **settings)  # type: ignore[arg-type]
    triton = FakeTriton()
    triton.add(CONFIG, model.run)
    app = TritonFrontend(settings=chosen, triton=triton)
    app.infer("/echo", model="echo", request=Text, response=Text)
    made = Ingress(app, settings=chosen, drain=app.drain)
    transport = httpx2.ASGITransport(app=made)
    async with app.router.lifespan_context(app), httpx2.AsyncClient(transport=transport, base_url="http://a") as http:
        yield made, http


async def ask(http: httpx2.AsyncClient) -> httpx2.Response:
    return await http.post("/echo", json={"text": "a"})


async def test_running_requests_finish_and_new_ones_are_rejected() -> None:
    model = Held()
    async with ingress(model, shutdown_grace_s=60) as (app, http):
        assert (await http.get("/health/ready")).status_code == 200
        running = asyncio.create_task(ask(http))
        await model.began.wait()
        ending = asyncio.create_task(app.end())
        for _ in range(2):  # the phases: unready, then closed
            await asyncio.sleep(0)
        ready = await http.get("/health/ready")
        assert ready.json()["status"] == "shutting down"
        refused = await ask(http)
        assert (refused.status_code, refused.json()["code"], refused.headers["Retry-After"]) == (
            503,
            "shutting_down",
            "1",
        )
        assert not ending.done()
        model.go.set()
        assert (await running).status_code == 200
        await ending


async def test_requests_beyond_the_grace_period_are_cancelled_with_an_error() -> None:
    model = Held()
    async with ingress(model, shutdown_grace_s=0) as (app, http):
        running = asyncio.create_task(ask(http))
        await model.began.wait()
        await app.end()
        stopped = await running
        assert (stopped.status_code, stopped.json()["code"]) == (503, "shutting_down")
        model.go.set()


async def test_an_idle_app_ends_at_once_and_removes_the_request_id_header() -> None:
    async with ingress(Held(), shutdown_grace_s=60) as (app, http):
        assert "X-Request-ID" not in (await http.get("/health/live")).headers
        await app.end()
