# SPDX-License-Identifier: Apache-2.0
"""The cost of an idle frontend with the default app: requests to a Triton stand-in, and CPU time.

`python -m benchmarks.idle --before COMMIT` measures the server of that commit too.
"""

import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

import aiohttp
import typer
from aiohttp import web

from benchmarks import ROOT
from benchmarks.common.measurement_lock import measurement
from benchmarks.frontend.many_models import StandIn
from benchmarks.frontend.servers import Server, checked_out, running
from fastapi_triton.triton import config_text

MODELS = ("sdxl_scribble_controlnet", "sdxl_scribble_controlnet_stream")
# The wait after the server is ready, for its work at the start to end.
SETTLE_S = 5.0
# Statistics of a model that runs nothing.
_STATS = {"execution_count": 0, "inference_stats": {"success": {"count": 0}, "fail": {"count": 0}}}


class IdleTriton(StandIn):
    """A stand-in with the default app's two models."""

    def __init__(self) -> None:
        super().__init__(0)
        self.names = list(MODELS)
        texts = {name: (ROOT / "models" / name / "config.pbtxt").read_text() for name in MODELS}
        self._configs = {name: config_text.parse(text) for name, text in texts.items()}

    def routes(self) -> list[web.RouteDef]:
        return [
            *super().routes(),
            web.get("/v2/health/{kind}", self._ready),
            web.get("/v2/models/{name}/stats", self._stats),
            web.post("/v2/models/{name}/generate_stream", self._describe),
        ]

    async def _config(self, request: web.Request) -> web.Response:
        return web.json_response(self._configs[request.match_info["name"]])

    async def _stats(self, request: web.Request) -> web.Response:
        return web.json_response({"model_stats": [{"name": request.match_info["name"], **_STATS}]})

    async def _describe(self, _: web.Request) -> web.Response:
        event = '{"model_name": "m", "model_version": "1", "event": "completed", "info": "{}"}'
        return web.Response(text=f"data: {event}\n\n", content_type="text/event-stream")


async def measure(name: str, root: Path, seconds: float) -> str:
    """Measure one server. Returns a line of the table."""
    async with AsyncExitStack() as stack:
        triton = await stack.enter_async_context(IdleTriton().running())
        command = Server(
            name,
            lambda launch: [
                sys.executable, "-m", "fastapi_triton", "serve", "--triton", triton.url, "--port", str(launch.port),
            ],
        )  # fmt: skip
        server = await stack.enter_async_context(running(command, triton.url, root))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        while (await session.get(f"http://127.0.0.1:{server.port}/health/ready")).status != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        await asyncio.sleep(SETTLE_S)
        triton.paths.clear()
        cpu_s = server.cpu_seconds()
        await asyncio.sleep(seconds)
        cpu_s = server.cpu_seconds() - cpu_s
        paths = ", ".join(f"{path} {number}" for path, number in triton.paths.most_common())
        requests = triton.paths.total() / seconds
        return f"{name:10} {requests:5.2f} requests/s, {1000 * cpu_s / seconds:5.2f} ms of CPU/s; {paths}"


async def _run(seconds: float, before: str) -> None:
    if before:
        with checked_out(before) as root:
            sys.stdout.write(await measure(before[:10], root, seconds) + "\n")
    sys.stdout.write(await measure("now", ROOT, seconds) + "\n")


def main(
    seconds: Annotated[float, typer.Option(help="Duration of each measurement.")] = 30.0,
    before: Annotated[str, typer.Option(help="A commit whose server is measured too.")] = "",
) -> None:
    """Print the requests and the CPU time of an idle server."""
    asyncio.run(_run(seconds, before))


if __name__ == "__main__":
    with measurement():
        typer.run(main)
