# SPDX-License-Identifier: Apache-2.0
"""An HTTP server in place of Triton: its model `echo` waits as long as a GPU would compute, at almost no CPU."""

import asyncio
import os
from pathlib import Path
from typing import Self

import ray
from aiohttp import web

from fastapi_triton.serving.ray_serve.options import ClusterOptions
from fastapi_triton.serving.ray_serve.replica import TritonReplica

# Set before Ray starts: its workers have the environment of who started it.
SERVICE_S, PLACES = "STAND_IN_SERVICE_S", "STAND_IN_PLACES"
# A folder where each writes its URL, in a file of its node's id, as soon as it is there.
FOLDER = "STAND_IN_FOLDER"
TEXT = {"name": "text", "data_type": "TYPE_STRING", "dims": [1]}
CONFIG = {"name": "echo", "max_batch_size": 0, "input": [TEXT], "output": [TEXT]}
ANSWER = {"model_name": "echo", "outputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a"]}]}


class StandIn:
    """Requests take `service_s`, `places` of them at once; more wait in the order in which they came."""

    def __init__(self, service_s: float, places: int) -> None:
        self._service_s = service_s
        self._places = asyncio.Semaphore(places)
        self._in_flight = 0
        self.url = ""

    @classmethod
    def of_environment(cls) -> Self:
        return cls(float(os.environ[SERVICE_S]), int(os.environ[PLACES]))

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/v2/models/echo/infer", self._infer)
        app.router.add_get("/v2/models/echo/config", _config)
        app.router.add_get("/v2/{rest:.*}", _ready)
        app.router.add_get("/in-flight", self._count)
        # A caller who leaves does not stop what runs, as with a Triton's plain models.
        runner = web.AppRunner(app, access_log=None, handler_cancellation=False)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"

    async def _infer(self, request: web.Request) -> web.Response:
        await request.read()
        self._in_flight += 1
        async with self._places:
            await asyncio.sleep(self._service_s)
        self._in_flight -= 1
        return web.json_response(ANSWER)

    async def _count(self, _: web.Request) -> web.Response:
        return web.json_response(self._in_flight)


async def _config(_: web.Request) -> web.Response:
    return web.json_response(CONFIG)


async def _ready(_: web.Request) -> web.Response:
    return web.Response()


class StandInReplica(TritonReplica):
    """Has its stand-in in its own process, which dies with it; all else is as with a Triton that runs already."""

    async def __init__(self, options: ClusterOptions, lease_limit_s: float) -> None:  # type: ignore[misc]
        stand_in = StandIn.of_environment()
        await stand_in.start()
        await super().__init__(options.model_copy(update={"triton_url": stand_in.url}), lease_limit_s)
        if folder := os.environ.get(FOLDER):
            (Path(folder) / ray.get_runtime_context().get_node_id()).write_text(stand_in.url)
