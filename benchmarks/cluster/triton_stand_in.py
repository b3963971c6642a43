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

# Environment variables. Set them before Ray starts: its workers inherit the environment.
SERVICE_S, NUM_AT_ONCE = "STAND_IN_SERVICE_S", "STAND_IN_NUM_AT_ONCE"
# A folder in which each stand-in writes its URL to a file named by its node's id.
FOLDER = "STAND_IN_FOLDER"
TEXT = {"name": "text", "data_type": "TYPE_STRING", "dims": [1]}
CONFIG = {"name": "echo", "max_batch_size": 0, "input": [TEXT], "output": [TEXT]}
RESPONSE = {"model_name": "echo", "outputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a"]}]}


class StandIn:
    """Works on `num_at_once` requests at once, each for `service_s`. Further ones wait in order of arrival."""

    def __init__(self, service_s: float, num_at_once: int) -> None:
        self._service_s = service_s
        self._slots = asyncio.Semaphore(num_at_once)
        self._in_flight = 0
        self.url = ""

    @classmethod
    def of_environment(cls) -> Self:
        return cls(float(os.environ[SERVICE_S]), int(os.environ[NUM_AT_ONCE]))

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/v2/models/echo/infer", self._infer)
        app.router.add_get("/v2/models/echo/config", _config)
        app.router.add_get("/v2/{rest:.*}", _ready)
        app.router.add_get("/in-flight", self._count)
        # Disconnected clients do not stop their requests, as in Triton's plain models.
        runner = web.AppRunner(app, access_log=None, handler_cancellation=False)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"

    async def _infer(self, request: web.Request) -> web.Response:
        await request.read()
        self._in_flight += 1
        async with self._slots:
            await asyncio.sleep(self._service_s)
        self._in_flight -= 1
        return web.json_response(RESPONSE)

    async def _count(self, _: web.Request) -> web.Response:
        return web.json_response(self._in_flight)


async def _config(_: web.Request) -> web.Response:
    return web.json_response(CONFIG)


async def _ready(_: web.Request) -> web.Response:
    return web.Response()


class StandInReplica(TritonReplica):
    """A replica with the stand-in in its own process. Everything else is as with a running Triton."""

    async def __init__(self, options: ClusterOptions, lease_limit_s: float) -> None:  # type: ignore[misc]
        stand_in = StandIn.of_environment()
        await stand_in.start()
        await super().__init__(options.model_copy(update={"triton_url": stand_in.url}), lease_limit_s)
        if folder := os.environ.get(FOLDER):
            (Path(folder) / ray.get_runtime_context().get_node_id()).write_text(stand_in.url)
