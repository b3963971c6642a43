# SPDX-License-Identifier: Apache-2.0
"""A peer that runs the engine in a real Triton behind the frontend, called over HTTP with server-sent events.

The clients run in this process. They send JSON with a base64 scribble, and read previews of every step. A client
disconnects by closing its connection.
"""

import asyncio
import base64
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence

import aiohttp

from benchmarks import ROOT
from benchmarks.common.free_port import free_port
from benchmarks.engine.job import Job, scribble_file
from benchmarks.engine.outcome import Outcome
from benchmarks.engine.served_app import PATH
from benchmarks.engine.stock_pipeline import Weights
from fastapi_triton.core import sse_parser

READY_WITHIN_S = 300.0
STOPPED_WITHIN_S = 60.0
NUM_LOG_LINES = 20  # shown if the server does not start
# A client's timeout, so that a server that hangs ends the run.
PATIENCE_S = 600.0
MAX_CLIENTS = 1000


class ServedEngine:
    """Runs in real time. Clients and server share this machine."""

    def __init__(self, name: str, weights: Weights, *, max_rows: int) -> None:
        self.name = name
        self._max_rows = max_rows
        self._server = Server(environment(weights, max_rows=max_rows))

    def warm_up(self) -> None:
        """Run requests that end one after another, so that passes with each number of rows run."""
        self.run([Job(index=index, arrival=0, num_steps=2 + index) for index in range(max(1, self._max_rows // 2))])

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        return asyncio.run(play(self._server.url + PATH, jobs))

    def profile(self) -> None:
        """None: the engine runs in another process without a profiler."""

    def close(self) -> None:
        self._server.stop()


class Server:
    """`fastapi-triton serve --embedded` as a process of its own. If it does not become ready, it is stopped."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        command = [sys.executable, "-m", "fastapi_triton", "serve", "benchmarks.engine.served_app:app", "--embedded"]
        command += ["--models", str(ROOT / "models"), "--port", str(port), "--max-in-flight", str(MAX_CLIENTS)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=dict(environment), stdout=self._log, stderr=subprocess.STDOUT
        )
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOPPED_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()  # then the guard process stops its Triton
            self._process.wait()
        self._log.close()

    def _wait_until_ready(self) -> None:
        give_up = time.monotonic() + READY_WITHIN_S
        while not is_ready(self.url):
            if self._process.poll() is not None or time.monotonic() > give_up:
                self._log.seek(0)
                log_lines = self._log.read().decode(errors="replace").splitlines()
                raise RuntimeError("\n".join(["the server did not become ready:", *log_lines[-NUM_LOG_LINES:]]))
            time.sleep(0.2)


def environment(weights: Weights, *, max_rows: int) -> dict[str, str]:
    """This process's environment, with the engine's settings."""
    paths = [str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    settings = {
        "SDXL_CHECKPOINT": weights.checkpoint,
        "SDXL_CONTROLNET": weights.controlnet,
        "SDXL_VAE": weights.vae,
        "SDXL_DEVICE": weights.device,
        "SDXL_DTYPE": weights.dtype,
        "SDXL_MAX_ROWS": str(max_rows),
        "SDXL_MAX_REQUESTS": str(MAX_CLIENTS),
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
    }
    return {**os.environ, **settings}


def is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health/ready", timeout=10) as response:  # noqa: S310
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


async def play(url: str, jobs: Sequence[Job]) -> list[Outcome]:
    """Run all clients of a trace."""
    start = time.monotonic()
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    async with (
        aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session,
        asyncio.TaskGroup() as clients,
    ):
        tasks = [clients.create_task(run_client(session, url, job, start)) for job in jobs]
    return [each.result() for each in tasks]


async def run_client(session: aiohttp.ClientSession, url: str, job: Job, start: float) -> Outcome:
    """Run one client from its arrival to its picture or its disconnect. Errors of the server raise."""
    await asyncio.sleep(max(0.0, start + job.arrival - time.monotonic()))
    previews: list[float] = []
    try:
        async with asyncio.timeout(None if job.stays else max(0.0, start + job.leaves_at - time.monotonic())):
            await read_events(session, url, job, previews, start)
    except TimeoutError:
        if job.stays:
            raise
    # This process does not know which steps ran after the disconnect.
    return Outcome(job=job, ended=time.monotonic() - start, first_preview=next(iter(previews), None), wasted_steps=None)


async def read_events(session: aiohttp.ClientSession, url: str, job: Job, previews: list[float], start: float) -> None:
    scribble = base64.b64encode(scribble_file(job.index)).decode()
    body = {"prompt": job.prompt, "image": scribble, "seed": job.index, "num_inference_steps": job.num_steps}
    async with session.post(url, json=body, headers={"Accept": sse_parser.MEDIA_TYPE}) as response:
        if response.status != 200:
            raise RuntimeError(f"{response.status}: {await response.text()}")
        async for event, text in sse_parser.parse(response.content.iter_any()):
            data = json.loads(text)
            if event == "progress" and data.get("preview") and not previews:
                previews.append(time.monotonic() - start)
            elif event == "completed":
                return
            elif event == "error":
                raise RuntimeError(str(data))
    raise RuntimeError("the events ended without a picture")
