# SPDX-License-Identifier: Apache-2.0
"""The frontend with an embedded Triton, in its own process, and the memory, files and threads that it holds."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from benchmarks import ROOT
from benchmarks.common.free_port import free_port

APP = Path(__file__).parent / "app"
START_TIMEOUT_S = 120


@dataclass(frozen=True, slots=True)
class ServerState:
    """Counts that must be the same before and after."""

    rss_mb: float
    fds: int
    threads: int
    tasks: int
    in_flight: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Frontend:
    """A running frontend, on `port`."""

    port: int
    process: psutil.Process

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def rss_mb(self) -> float:
        return self.process.memory_info().rss / 1e6

    @property
    def cpu_s(self) -> float:
        times = self.process.cpu_times()
        return times.user + times.system

    async def state(self) -> ServerState:
        async with aiohttp.ClientSession() as session, session.get(self.url + "/state") as response:
            state: dict[str, Any] = await response.json()
        return ServerState(self.rss_mb, self.process.num_fds(), **state)


@asynccontextmanager
async def running(**settings: object) -> AsyncIterator[Frontend]:
    """Start the frontend with these settings, wait until it is ready, and stop it at the end."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fastapi_triton", "serve", "--embedded", "--port", str(port)),
        cwd=APP,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT / "src"),
            "FASTAPI_TRITON_LOG_LEVEL": "warning",
            **{f"FASTAPI_TRITON_{name.upper()}": str(value) for name, value in settings.items()},
        },
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        frontend = Frontend(port, psutil.Process(process.pid))
        async with asyncio.timeout(START_TIMEOUT_S):
            await _ready(frontend.url)
        yield frontend
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


async def _ready(url: str) -> None:
    async with aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(url + "/health/ready") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.2)
