# SPDX-License-Identifier: Apache-2.0
"""Run the servers, and measure them in rounds with the same small requests."""

import asyncio
import os
import random
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import ROOT
from benchmarks.common import cpu_time
from benchmarks.common.closed_loop import Loop, drive
from benchmarks.common.free_port import free_port
from benchmarks.framework_internals.upstream import upstream
from benchmarks.framework_internals.variants import WORKERS, Variant
from benchmarks.frontend.payload import Payload

NUM_CHARACTERS = 16_384
CONCURRENCIES = (1, 8)
_PATH = "/scribble"
_START_TIMEOUT_S = 60
_WARM_UP_S = 0.4
_COUNTED_S = 2.0


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    port: int
    pid: int


@asynccontextmanager
async def running(variant: Variant, triton_url: str, *, under: Sequence[str] = ()) -> AsyncIterator[Server]:
    """Run a server of this variant, under another program if `under` names one."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        process = await asyncio.create_subprocess_exec(
            *(*under, sys.executable, "-m", "benchmarks.framework_internals.server", variant, str(port)),
            cwd=ROOT,
            env={
                **os.environ,
                "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
                "TRITON_URL": triton_url,
                "FASTAPI_TRITON_ACCESS_LOG": "false",
                "FASTAPI_TRITON_WATCH_INTERVAL_S": "3600",
                "OTEL_SDK_DISABLED": "true",
                **({"PROMETHEUS_MULTIPROC_DIR": folder} if variant in WORKERS else {}),
            },
        )
        try:
            await _listens(port, process)
            yield Server(port, process.pid)
        finally:
            process.terminate()
            await process.wait()


async def _listens(port: int, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(_START_TIMEOUT_S):
        while process.returncode is None:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return
    raise RuntimeError(f"a server exited with status {process.returncode} before it listened")


def _loop(payload: Payload) -> Loop:
    request = payload.http_request(_PATH, is_v2=False)
    return Loop(request, lambda body: payload.is_in(body, is_v2=False))


async def _microseconds(server: Server, payload: Payload, *, concurrency: int, seconds: float) -> float:
    """Microseconds of the server's CPU for one request."""
    loop = _loop(payload)
    before = cpu_time.seconds([server.pid])
    await drive(loop, server.port, concurrency=concurrency, seconds=seconds)
    return (cpu_time.seconds([server.pid]) - before) / len(loop.latencies) * 1e6


# Microseconds of every round, by variant and concurrency.
CpuTimes = Mapping[tuple[Variant, int], list[float]]


async def measure(*, num_rounds: int, seconds: float) -> CpuTimes:
    """Measure all variants in each round, in random order, so that a busy machine affects all of them alike."""
    payload = Payload.of(NUM_CHARACTERS)
    times: dict[tuple[Variant, int], list[float]] = {(each, number): [] for each in Variant for number in CONCURRENCIES}
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(upstream(payload.image.encode()))
        servers = {variant: await stack.enter_async_context(running(variant, url)) for variant in Variant}
        for server in servers.values():
            await _microseconds(server, payload, concurrency=max(CONCURRENCIES), seconds=_WARM_UP_S)
        for _ in range(num_rounds):
            for concurrency in CONCURRENCIES:
                for variant in random.sample(list(Variant), len(Variant)):
                    took = await _microseconds(servers[variant], payload, concurrency=concurrency, seconds=seconds)
                    times[variant, concurrency].append(took)
    return times


async def count_instructions() -> dict[Variant, float]:
    """Instructions of one request by valgrind, without the kernel's. Other load does not change them."""
    payload = Payload.of(NUM_CHARACTERS)
    counts: dict[Variant, float] = {}
    async with upstream(payload.image.encode()) as url:
        for variant in Variant:
            with tempfile.TemporaryDirectory() as folder:
                counts[variant] = await _count(variant, url, payload, Path(folder) / "callgrind")
    return counts


async def _count(variant: Variant, url: str, payload: Payload, file: Path) -> float:
    valgrind = ("valgrind", "--quiet", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={file}")
    async with running(variant, url, under=valgrind) as server:
        await drive(_loop(payload), server.port, concurrency=1, seconds=_COUNTED_S)
        await _control(server, "--instr=on")
        await drive(_loop(payload), server.port, concurrency=1, seconds=_COUNTED_S)  # valgrind translates the code
        await _control(server, "--zero")
        counted = _loop(payload)
        await drive(counted, server.port, concurrency=1, seconds=_COUNTED_S)
        await _control(server, "--instr=off")
    return _total(file) / len(counted.latencies)


async def _control(server: Server, option: str) -> None:
    control = await asyncio.create_subprocess_exec(
        "callgrind_control", option, str(server.pid), stdout=asyncio.subprocess.DEVNULL
    )
    if await control.wait():
        raise RuntimeError(f"callgrind_control {option} failed")


def _total(file: Path) -> int:
    (line,) = [line for line in file.read_text().splitlines() if line.startswith("totals:")]
    return int(line.split()[1])
