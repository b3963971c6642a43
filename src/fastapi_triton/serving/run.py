# SPDX-License-Identifier: Apache-2.0
"""Runs the frontend: uvicorn, and the embedded Triton beside it, from start to a clean end."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI

from fastapi_triton.app.frontend import TritonFrontend
from fastapi_triton.core import bundle
from fastapi_triton.embedded.installation import EmbeddedTritonError
from fastapi_triton.embedded.triton_process import EmbeddedTriton
from fastapi_triton.pictures.text_to_image import scribble_field
from fastapi_triton.serving import listen_address
from fastapi_triton.serving.readiness_log import ReadinessLog, reported
from fastapi_triton.serving.server import Server
from fastapi_triton.serving.supervisor import Workers, WorkersPlan
from fastapi_triton.triton.http_client import HTTPTriton
from fastapi_triton.triton.transport.address import Address

logger = logging.getLogger(__name__)

ENDING = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class Plan:
    """The app to serve, its address, and what runs beside it."""

    app: FastAPI
    host: str
    port: int
    triton: EmbeddedTriton | None
    # How worker processes load the app; None: this process serves the app.
    workers: WorkersPlan | None = None

    @property
    def url(self) -> str:
        """The URL for a browser on this machine."""
        host = "localhost" if self.host == "127.0.0.1" or listen_address.is_every_address(self.host) else self.host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


def run(plan: Plan) -> None:
    """Serve until Ctrl-C or SIGTERM; a second one ends the process at once."""
    if isinstance(plan.app, TritonFrontend):
        listen_address.warn_if_open(plan.host, plan.app.settings)
    server = Server(plan.app, host=plan.host, port=plan.port)
    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(_serve(plan, server))


async def _serve(plan: Plan, server: Server) -> None:
    # Before the server handles signals and after it has ended, a signal ends this process at once. The guard of the
    # embedded Triton then stops Triton.
    for number in ENDING:
        signal.signal(number, signal.SIG_DFL)
    async with contextlib.AsyncExitStack() as stack:
        if plan.triton is not None:
            client = plan.app.triton if isinstance(plan.app, TritonFrontend) else None
            if plan.workers is None and isinstance(client, HTTPTriton):
                plan.triton.observer = client.processes
            await stack.enter_async_context(plan.triton)
        logger.info("the frontend listens on %s; Triton is at %s", plan.url, _triton_url(plan.app))
        log = ReadinessLog(f"\n  Ready: {plan.url}\n{example(plan.app, plan.url)}\n")
        if plan.workers is None:
            async with reported(plan.app, server, log.report):
                await _serve_alone(server, plan.triton)
        else:
            await _serve_with_workers(plan, plan.workers, log)


async def _serve_alone(server: Server, triton: EmbeddedTriton | None) -> None:
    def stop() -> None:
        server.should_exit = True

    async with _ended_with(triton, stop):
        await server.serve()


@contextlib.asynccontextmanager
async def _ended_with(triton: EmbeddedTriton | None, stop: Callable[[], None]) -> AsyncGenerator[None, None]:
    """Call `stop` if the embedded Triton does not start at all, and raise the error at the end of the block.

    Raises:
        EmbeddedTritonError: the embedded Triton does not start, and further attempts would fail too.
    """
    if triton is None:
        yield
        return
    giving_up = asyncio.create_task(triton.given_up())
    giving_up.add_done_callback(lambda ended: None if ended.cancelled() else stop())
    try:
        yield
    finally:
        giving_up.cancel()
        await asyncio.wait([giving_up])
    if not giving_up.cancelled():
        raise EmbeddedTritonError(f"The embedded Triton does not start: {giving_up.result()}")


async def _serve_with_workers(plan: Plan, wanted: WorkersPlan, log: ReadinessLog) -> None:
    loop = asyncio.get_running_loop()
    with listen_address.listen(plan.host, plan.port) as shared:
        group = Workers(wanted, shared, on_report=log.report)

        def stop() -> None:
            for number in ENDING:  # the next signal ends the process at once
                loop.remove_signal_handler(number)
                signal.signal(number, signal.SIG_DFL)
            logger.info("shutting down: the workers finish their requests")
            group.stop()

        for number in ENDING:
            loop.add_signal_handler(number, stop)
        async with _ended_with(plan.triton, stop):
            await group.run()


def _triton_url(app: FastAPI) -> str:
    return (
        str(Address.of(app.settings.triton_url)) if isinstance(app, TritonFrontend) else "the address in the app's code"
    )


def example(app: FastAPI, url: str) -> str:
    """A `curl` command for the first endpoint that takes a scribble; empty if there is none."""
    if not isinstance(app, TritonFrontend):
        return ""
    for endpoint in app.endpoints:
        if field := scribble_field(endpoint):
            scribble = Path("scribble.png")  # in a folder of `fastapi-triton init`
            if not scribble.is_file():
                scribble = bundle.examples() / "house.png"
                with contextlib.suppress(ValueError):
                    scribble = scribble.relative_to(Path.cwd())
            key = " -H 'X-API-Key: <your key>'" if app.settings.api_keys_file else ""
            return (
                f"  Try it: curl {url}{endpoint.path} -H 'Accept: image/png' -o picture.png{key} \\\n"
                f"            -F prompt='a red house in the snow' -F '{field}=@{scribble}'\n"
            )
    return ""
