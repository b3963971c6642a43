# SPDX-License-Identifier: Apache-2.0
"""Start-up, OpenAPI and request times of a frontend with 200 models, in front of a Triton stand-in.

`python -m benchmarks.frontend.many_models`
"""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import uvicorn
from aiohttp import web
from aiohttp.typedefs import Handler

from benchmarks.common.measurement_lock import measurement
from fastapi_triton import Settings, TritonFrontend

NUM_MODELS = 200
# A real Triton's time for one config, which it reads from memory.
CONFIG_S = 0.0007


class StandIn:
    """A v2 server with `num_models` models. Its response to every inference is one number."""

    def __init__(self, num_models: int, *, config_s: float = 0.0) -> None:
        self.names = [f"model_{number:03}" for number in range(num_models)]
        self.config_s = config_s
        self.url = ""
        self.num_fetches = 0
        self.most_at_once = 0
        # Number of requests by path.
        self.paths: Counter[str] = Counter()
        self._at_once = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator["StandIn"]:
        app = web.Application(middlewares=[self._count])
        app.add_routes(self.routes())
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            host, port = runner.addresses[0][:2]
            self.url = f"http://{host}:{port}"
            yield self
        finally:
            await runner.cleanup()

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v2/repository/index", self._index),
            web.get("/v2/models/{name}/config", self._config),
            web.get("/v2/models/{name}/ready", self._ready),
            web.post("/v2/models/{name}/infer", self._infer),
        ]

    @web.middleware
    async def _count(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.paths[request.path] += 1
        return await handler(request)

    async def _index(self, _: web.Request) -> web.Response:
        return web.json_response([{"name": name, "version": "1", "state": "READY"} for name in self.names])

    async def _config(self, request: web.Request) -> web.Response:
        self._at_once += 1
        self.num_fetches += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        await asyncio.sleep(self.config_s)
        self._at_once -= 1
        return web.json_response(config(request.match_info["name"]))

    async def _ready(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _infer(self, _: web.Request) -> web.Response:
        output = {"name": "score", "datatype": "FP32", "shape": [1, 1], "data": [0.5]}
        return web.json_response({"model_name": "m", "outputs": [output]})


def config(name: str) -> dict[str, Any]:
    """A model of middling size, as `GET /v2/models/<name>/config` returns it."""
    inputs = [
        ("pixels", "TYPE_UINT8", ["-1", "-1", "3"]),
        ("embedding", "TYPE_FP32", ["768"]),
        ("text", "TYPE_STRING", ["1"]),
        ("limit", "TYPE_INT32", ["1"]),
    ]
    outputs = [("score", "TYPE_FP32", ["1"]), ("labels", "TYPE_STRING", ["-1"])]
    return {
        "name": name,
        "max_batch_size": 8,
        "input": [_tensor(*each, optional=each[0] != "limit") for each in inputs],
        "output": [_tensor(*each) for each in outputs],
        "parameters": {},
    }


def _tensor(name: str, data_type: str, dims: list[str], *, optional: bool = False) -> dict[str, Any]:
    return {"name": name, "data_type": data_type, "dims": dims, "optional": optional}


async def measure(num_models: int) -> list[str]:
    """Times over HTTP, with a Triton that is ready from the start."""
    async with StandIn(num_models, config_s=CONFIG_S).running() as triton:
        frontend = TritonFrontend(settings=Settings(triton_url=triton.url, generate=True))
        server = uvicorn.Server(uvicorn.Config(frontend, port=0, log_level="warning"))
        started = time.perf_counter()
        serving = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110 (uvicorn has no event for it)
            await asyncio.sleep(0.001)
        url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        async with aiohttp.ClientSession(url) as session:
            while await _num_ready(session) < num_models:  # noqa: ASYNC110 (polled as a client does)
                await asyncio.sleep(0.005)
            lines = [f"{num_models} models: all ready after {time.perf_counter() - started:.2f} s"]
            for which in ("first", "second"):
                began = time.perf_counter()
                document = await (await session.get("/openapi.json")).read()
                lines.append(f"/openapi.json, {which}: {time.perf_counter() - began:.2f} s, {len(document):,} bytes")
            path = f"/models/{triton.names[-1]}/infer"
            for _ in range(50):
                await (await session.post(path, json={"limit": 1})).read()
            began = time.perf_counter()
            for _ in range(500):
                await (await session.post(path, json={"limit": 1})).read()
            lines.append(f"one request to the last model: {(time.perf_counter() - began) * 2:.2f} ms")
        server.should_exit = True
        await serving
    return lines


async def _num_ready(session: aiohttp.ClientSession) -> int:
    models = (await (await session.get("/models")).json())["models"]
    return sum(each["ready"] for each in models)


if __name__ == "__main__":
    with measurement():
        for each in (1, NUM_MODELS):
            sys.stdout.write("\n".join(asyncio.run(measure(each))) + "\n")
