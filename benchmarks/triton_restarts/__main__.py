# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.triton_restarts --seconds 180 --every 20`.

Exits with 1 if a request had no response, recovery took too long, or an accepted job did not complete. Triton is a
child of this process, which restarts it when it dies. The frontend is a process of its own.
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
from benchmarks.common.measurement_lock import measurement
from benchmarks.triton_restarts.background_jobs import Jobs
from benchmarks.triton_restarts.clients import APIS, NO_RESPONSE, Responses, send_requests
from fastapi_triton.embedded.triton_process import EmbeddedTriton, Ports

MODELS = Path(__file__).parent / "models"
APP = "benchmarks.triton_restarts.app:app"
# Required: the longest time from Triton's readiness to the recovery of each API.
MOST_LAG_S = 2.0
_POLL_S = 0.01


@asynccontextmanager
async def frontend(triton_url: str) -> AsyncGenerator[str, None]:
    """Run the frontend. Yields its URL."""
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
    """Poll `url` until it responds with 200, or until it no longer does. Returns the time."""
    while True:
        try:
            async with session.get(url) as response:
                found = response.status == 200
        except aiohttp.ClientError:
            found = False
        if found == is_ready:
            return time.monotonic()
        await asyncio.sleep(_POLL_S)


def find_triton() -> psutil.Process:
    """Find the `tritonserver` below this process. Run it in a thread: it blocks long enough to delay the clients."""
    (server,) = (each for each in psutil.Process().children(recursive=True) if each.name() == "tritonserver")
    return server


async def measure(
    seconds: float, every_s: float, num_clients: int
) -> tuple[dict[str, Responses], list[dict[str, float]], Jobs]:
    """Run clients and jobs, and kill Triton repeatedly.

    Returns the responses by API, the seconds that each API needed to recover after each kill, and the jobs.
    """
    responses_by_api = {api: Responses() for api in APIS}
    jobs = Jobs()
    lags: list[dict[str, float]] = []
    async with (
        EmbeddedTriton.prepare(MODELS) as triton,
        frontend(triton.url) as url,
        aiohttp.ClientSession(url) as session,
        aiohttp.ClientSession() as polling,
    ):
        ready = (f"{triton.url}/v2/models/pause/ready", f"{url}/health/ready")
        await asyncio.gather(*(until(polling, each, is_ready=True) for each in ready))
        clients = [
            asyncio.create_task(send_requests(session, api, responses_by_api[api]))
            for api in APIS
            for _ in range(num_clients)
        ]
        clients.append(asyncio.create_task(jobs.submit(session)))
        ends = time.monotonic() + seconds
        while time.monotonic() + every_s <= ends:
            server = await asyncio.to_thread(find_triton)
            await asyncio.sleep(every_s)
            server.kill()
            await until(polling, ready[0], is_ready=False)
            recoveries = [asyncio.create_task(until(polling, each, is_ready=True)) for each in ready]
            triton_at, frontend_at = await asyncio.gather(*recoveries)
            await asyncio.sleep(MOST_LAG_S)
            lags.append({"/health/ready": frontend_at - triton_at, **_first_served(responses_by_api, triton_at)})
            ends += time.monotonic() - triton_at  # the wait for recovery is not time under load
        await asyncio.sleep(every_s)
        for each in clients:
            each.cancel()
        await asyncio.wait(clients)
        await jobs.wait_for_all(session)
    return responses_by_api, lags, jobs


def _first_served(responses_by_api: dict[str, Responses], since: float) -> dict[str, float]:
    """Seconds from `since` to the start of the first successful request of each API; 0 if it started before."""
    never = (since + float("inf"), since + float("inf"))
    return {
        api: max(0.0, min((each for each in found.served if each[1] >= since), default=never)[1] - since)
        for api, found in responses_by_api.items()
    }


def report(responses_by_api: dict[str, Responses], lags: list[dict[str, float]]) -> str:
    """Markdown tables."""
    lines = ["| API | responses | 200 | others |", "| --- | --- | --- | --- |"]
    for api, found in responses_by_api.items():
        others = ", ".join(f"{count} x {code}" for code, count in sorted(found.counts.items()) if code != "200")
        lines.append(f"| {api} | {found.counts.total()} | {found.counts['200']} | {others} |")
    lines += ["", "| recovered after Triton was ready | median | most |", "| --- | --- | --- |"]
    for name in lags[0] if lags else ():
        times = [each[name] for each in lags]
        lines.append(f"| {name} | {statistics.median(times):.2f} s | {max(times):.2f} s |")
    slowest = max(found.slowest_rejection_s for found in responses_by_api.values())
    return "\n".join([*lines, "", f"{len(lags)} kills; the slowest 503 took {slowest:.2f} s."])


def main(
    seconds: Annotated[float, typer.Option(help="Total time in which Triton runs.")] = 180.0,
    every: Annotated[float, typer.Option(help="Seconds between recovery and the next kill.")] = 20.0,
    num_clients: Annotated[int, typer.Option("--callers", help="Clients of each API, one request at a time.")] = 2,
) -> None:
    """Kill Triton repeatedly under load."""
    with measurement():
        responses_by_api, lags, jobs = asyncio.run(measure(seconds, every, num_clients))
    sys.stdout.write(
        f"{machine.cpu_name()}, {machine.commit()}\n\n{report(responses_by_api, lags)}\n\n{jobs.summary()}\n"
    )
    has_lost_request = any(code.startswith(NO_RESPONSE) for found in responses_by_api.values() for code in found.counts)
    is_late = any(lag > MOST_LAG_S for each in lags for lag in each.values())
    sys.exit(has_lost_request or is_late or not jobs.are_all_done)


if __name__ == "__main__":
    typer.run(main)
