# SPDX-License-Identifier: Apache-2.0
"""A peer that runs the engine in a real Triton behind the frontend, called over HTTP with server-sent events.

The callers are this process: JSON with a base64 scribble out, previews with every step back, and whoever leaves closes
his connection.
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
NUM_TOLD_LINES = 20  # of the log of a server that does not come up
# One caller waits no longer than this for his picture, so that a server that hangs ends the run.
PATIENCE_S = 600.0
MOST_CALLERS = 1000


class ServedEngine:
    """Real time: everything runs here, the callers too."""

    def __init__(self, name: str, weights: Weights, *, max_rows: int) -> None:
        self.name = name
        self._max_rows = max_rows
        self._server = Server(environment(weights, max_rows=max_rows))

    def warm_up(self) -> None:
        """Requests that end one after the other, so that every number of rows has its turn."""
        self.run([Job(index=index, arrival=0, num_steps=2 + index) for index in range(max(1, self._max_rows // 2))])

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        return asyncio.run(play(self._server.url + PATH, jobs))

    def profile(self) -> None:
        """It is in another process, and nobody listens to its networks."""

    def close(self) -> None:
        self._server.stop()


class Server:
    """`fastapi-triton serve --embedded` as a process of its own. Gone when it was stopped, or never came up."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        command = [sys.executable, "-m", "fastapi_triton", "serve", "benchmarks.engine.served_app:app", "--embedded"]
        command += ["--models", str(ROOT / "models"), "--port", str(port), "--max-in-flight", str(MOST_CALLERS)]
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
            self._process.kill()  # the guard beside its Triton stops that
            self._process.wait()
        self._log.close()

    def _wait_until_ready(self) -> None:
        give_up = time.monotonic() + READY_WITHIN_S
        while not is_ready(self.url):
            if self._process.poll() is not None or time.monotonic() > give_up:
                self._log.seek(0)
                said = self._log.read().decode(errors="replace").splitlines()
                raise RuntimeError("\n".join(["the server did not become ready:", *said[-NUM_TOLD_LINES:]]))
            time.sleep(0.2)


def environment(weights: Weights, *, max_rows: int) -> dict[str, str]:
    """This process's, with the engine's settings in it."""
    paths = [str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    settings = {
        "SDXL_CHECKPOINT": weights.checkpoint,
        "SDXL_CONTROLNET": weights.controlnet,
        "SDXL_VAE": weights.vae,
        "SDXL_DEVICE": weights.device,
        "SDXL_DTYPE": weights.dtype,
        "SDXL_MAX_ROWS": str(max_rows),
        "SDXL_MAX_REQUESTS": str(MOST_CALLERS),
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
    }
    return {**os.environ, **settings}


def is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health/ready", timeout=10) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


async def play(url: str, jobs: Sequence[Job]) -> list[Outcome]:
    """All callers of a trace."""
    start = time.monotonic()
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    async with (
        aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session,
        asyncio.TaskGroup() as callers,
    ):
        calls = [callers.create_task(call(session, url, job, start)) for job in jobs]
    return [each.result() for each in calls]


async def call(session: aiohttp.ClientSession, url: str, job: Job, start: float) -> Outcome:
    """One caller, from his arrival until he has his picture or leaves. Raises what the server failed on."""
    await asyncio.sleep(max(0.0, start + job.arrival - time.monotonic()))
    previews: list[float] = []
    try:
        async with asyncio.timeout(None if job.stays else max(0.0, start + job.leaves_at - time.monotonic())):
            await watch(session, url, job, previews, start)
    except TimeoutError:
        if job.stays:
            raise
    # What was done for a leaver after he had left is not seen from here.
    return Outcome(job=job, ended=time.monotonic() - start, first_preview=next(iter(previews), None), wasted_steps=None)


async def watch(session: aiohttp.ClientSession, url: str, job: Job, previews: list[float], start: float) -> None:
    scribble = base64.b64encode(scribble_file(job.index)).decode()
    wish = {"prompt": job.prompt, "image": scribble, "seed": job.index, "num_inference_steps": job.num_steps}
    async with session.post(url, json=wish, headers={"Accept": sse_parser.MEDIA_TYPE}) as answer:
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {await answer.text()}")
        async for event, text in sse_parser.parse(answer.content.iter_any()):
            data = json.loads(text)
            if event == "progress" and data.get("preview") and not previews:
                previews.append(time.monotonic() - start)
            elif event == "completed":
                return
            elif event == "error":
                raise RuntimeError(str(data))
    raise RuntimeError("the events ended without a picture")
