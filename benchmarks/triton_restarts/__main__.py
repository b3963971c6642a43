# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.triton_restarts --seconds 180 --every 20`. Exit status 1: something was unanswered, late,
or a job that was accepted did not complete.

Triton runs below this process, which restarts it when it dies; the frontend is a process of its own.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import aiohttp
import psutil
import typer

from benchmarks.common import machine
from benchmarks.triton_restarts.background_jobs import Jobs
from benchmarks.triton_restarts.callers import NO_ANSWER, WAYS, Told, call
from fastapi_triton.embedded.triton_process import EmbeddedTriton, Ports

MODELS = Path(__file__).parent / "models"
APP = "benchmarks.triton_restarts.app:app"
# The figure to reach: from Triton's own readiness to that of every way through the frontend.
MOST_LAG_S = 2.0
_LOOK_S = 0.01


@asynccontextmanager
async def frontend(triton_url: str) -> AsyncGenerator[str, None]:
    """The frontend's URL; it is gone afterwards."""
    port = Ports.free().http
    command = (sys.executable, "-m", "fastapi_triton", "serve", APP, "--triton", triton_url, "--port", str(port))
    with tempfile.TemporaryDirectory() as folder:
        process = await asyncio.create_subprocess_exec(
            *command, "--log-level", "error", "--jobs-folder", folder, stdout=asyncio.subprocess.DEVNULL
        )
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            await process.wait()


async def until(session: aiohttp.ClientSession, url: str, *, is_ready: bool) -> float:
    """When this URL began to answer 200, or ceased to."""
    while True:
        try:
            async with session.get(url) as answer:
                found = answer.status == 200
        except aiohttp.ClientError:
            found = False
        if found == is_ready:
            return time.monotonic()
        await asyncio.sleep(_LOOK_S)


def find_triton() -> psutil.Process:
    """The `tritonserver` below this process. Looking for it takes long enough to hold up callers: do it in a thread."""
    (server,) = (each for each in psutil.Process().children(recursive=True) if each.name() == "tritonserver")
    return server


async def measure(seconds: float, every_s: float, callers: int) -> tuple[dict[str, Told], list[dict[str, float]], Jobs]:
    """What callers were told, after each kill how long after Triton every way was back, in seconds, and the jobs."""
    told = {way: Told() for way in WAYS}
    jobs = Jobs()
    lags: list[dict[str, float]] = []
    async with (
        EmbeddedTriton.prepare(MODELS) as triton,
        frontend(triton.url) as url,
        aiohttp.ClientSession(url) as session,
        aiohttp.ClientSession() as looking,
    ):
        ready = (f"{triton.url}/v2/models/pause/ready", f"{url}/health/ready")
        await asyncio.gather(*(until(looking, each, is_ready=True) for each in ready))
        calling = [asyncio.create_task(call(session, way, told[way])) for way in WAYS for _ in range(callers)]
        calling.append(asyncio.create_task(jobs.submit(session)))
        ends = time.monotonic() + seconds
        while time.monotonic() + every_s <= ends:
            server = await asyncio.to_thread(find_triton)
            await asyncio.sleep(every_s)
            server.kill()
            await until(looking, ready[0], is_ready=False)
            back = [asyncio.create_task(until(looking, each, is_ready=True)) for each in ready]
            triton_at, frontend_at = await asyncio.gather(*back)
            await asyncio.sleep(MOST_LAG_S)
            lags.append({"/health/ready": frontend_at - triton_at, **_first_served(told, triton_at)})
            ends += time.monotonic() - triton_at  # what waiting for it took is not time under load
        await asyncio.sleep(every_s)
        for each in calling:
            each.cancel()
        await asyncio.wait(calling)
        await jobs.see_them_end(session)
    return told, lags, jobs


def _first_served(told: dict[str, Told], since: float) -> dict[str, float]:
    """How long after `since` the first request of each way was answered; a request that began before counts as 0."""
    never = (since + float("inf"), since + float("inf"))
    return {
        way: max(0.0, min((each for each in found.served if each[1] >= since), default=never)[1] - since)
        for way, found in told.items()
    }


def report(told: dict[str, Told], lags: list[dict[str, float]]) -> str:
    """Markdown."""
    lines = ["| way | answers | of them 200 | others |", "| --- | --- | --- | --- |"]
    for way, found in told.items():
        others = ", ".join(f"{count} x {code}" for code, count in sorted(found.answers.items()) if code != "200")
        lines.append(f"| {way} | {found.answers.total()} | {found.answers['200']} | {others} |")
    lines += ["", "| back after Triton is ready | median | most |", "| --- | --- | --- |"]
    for name in lags[0] if lags else ():
        times = [each[name] for each in lags]
        lines.append(f"| {name} | {statistics.median(times):.2f} s | {max(times):.2f} s |")
    slowest = max(found.slowest_refusal_s for found in told.values())
    return "\n".join([*lines, "", f"{len(lags)} kills; the slowest refusal took {slowest:.2f} s."])


def main(
    seconds: Annotated[float, typer.Option(help="How long Triton is up in all.")] = 180.0,
    every: Annotated[float, typer.Option(help="Seconds between its return and the next kill.")] = 20.0,
    callers: Annotated[int, typer.Option(help="Callers of each way, with one request at a time.")] = 2,
) -> None:
    """Kill Triton again and again under load."""
    told, lags, jobs = asyncio.run(measure(seconds, every, callers))
    sys.stdout.write(f"{machine.cpu_name()}, {machine.commit()}\n\n{report(told, lags)}\n\n{jobs.told()}\n")
    is_unanswered = any(code.startswith(NO_ANSWER) for found in told.values() for code in found.answers)
    is_late = any(lag > MOST_LAG_S for each in lags for lag in each.values())
    sys.exit(is_unanswered or is_late or not jobs.are_all_done)


if __name__ == "__main__":
    typer.run(main)
