# SPDX-License-Identifier: Apache-2.0
"""Runs several worker processes that serve one app on one port. A worker that dies is replaced; all end together.

The workers share one listening socket, so a connection that waits to be accepted is not lost with a worker. All other
limits and state are per worker: `max_in_flight`, `max_connections`, the state of Triton.
"""

import asyncio
import contextlib
import logging
import os
import socket
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from fastapi_triton.core.background import BackgroundTask

logger = logging.getLogger(__name__)

# The folder in which prometheus_client shares the metrics of processes.
METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
LONGEST_BACKOFF_S = 30.0
# If a worker has run for this long, the next one starts without a backoff.
STEADY_S = 30.0
# The most bytes of a worker's report about its readiness, as JSON.
_MAX_REPORT_BYTES = 1024 * 1024


class WorkerExitedError(Exception):
    """A worker ended by itself."""


@dataclass(frozen=True, slots=True)
class WorkersPlan:
    """The number of workers, and the arguments by which they load the app."""

    count: int
    app_name: str | None
    is_bundled_repository: bool


class Workers:
    """Keeps a number of workers running until `stop` is called."""

    def __init__(self, plan: WorkersPlan, shared: socket.socket, *, on_report: Callable[[bool, str], None]) -> None:
        self._count = plan.count
        self._shared = shared
        self._arguments = [plan.app_name or "", "bundled" if plan.is_bundled_repository else ""]
        self._on_report = on_report
        # By process id, whether a worker is ready; without workers that have not reported yet.
        self._is_ready: dict[int, bool] = {}
        self._running: set[asyncio.subprocess.Process] = set()
        self._stopping = asyncio.Event()
        self._environment: dict[str, str] = {}

    def stop(self) -> None:
        """Have all workers finish their requests and end."""
        self._stopping.set()
        self._shared.close()  # else new connections would wait for nothing
        for process in self._running:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()

    async def run(self) -> None:
        """Run the workers until `stop` is called and the last of them has ended."""
        with tempfile.TemporaryDirectory(prefix="fastapi-triton-metrics-") as folder:
            # The workers share their metrics in this folder, so that /metrics of any worker shows those of all.
            self._environment = {METRICS_FOLDER: folder, **os.environ}
            async with asyncio.TaskGroup() as slots:
                for number in range(1, self._count + 1):
                    slots.create_task(self._keep_running(number))

    async def _keep_running(self, number: int) -> None:
        task = BackgroundTask(
            f"worker {number}",
            consequence="One worker process fewer serves requests.",
            expected=(OSError, WorkerExitedError),
            longest_backoff_s=LONGEST_BACKOFF_S,
        )

        async def step() -> None:
            steady = asyncio.get_running_loop().call_later(STEADY_S, task.succeeded)
            try:
                status = await self._run_once()
            finally:
                steady.cancel()
            if not self._stopping.is_set():
                raise WorkerExitedError(f"exit status {status}")

        with task.listed():
            await task.repeat(step, until=self._stopping)

    async def _run_once(self) -> int:
        descriptor = self._shared.fileno()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "fastapi_triton.serving.worker", str(descriptor), *self._arguments,
                stdin=theirs.fileno(),  # closes when this process ends, in whatever way
                pass_fds=(descriptor,),
                env=self._environment,
                start_new_session=True,  # Ctrl-C in the terminal must reach only this process
            )  # fmt: skip
            theirs.close()
            self._running.add(process)
            logger.info("worker %d starts", process.pid)
            if self._stopping.is_set():  # `stop` was called while this worker started
                process.terminate()
            reading = asyncio.create_task(self._read_reports(process.pid, ours))
            try:
                return await process.wait()
            finally:
                reading.cancel()
                await asyncio.wait([reading])
                self._running.discard(process)

    async def _read_reports(self, worker: int, connection: socket.socket) -> None:
        """Report the readiness of a worker. The app is ready while at least one worker is."""
        reader, writer = await asyncio.open_connection(sock=connection, limit=_MAX_REPORT_BYTES)
        try:
            async for line in reader:
                is_ready, body = orjson.loads(line)
                self._is_ready[worker] = is_ready
                self._on_report(any(self._is_ready.values()), body)
        finally:
            writer.close()
            if self._is_ready.pop(worker, False) and not self._stopping.is_set():
                self._on_report(any(self._is_ready.values()), f"worker {worker} has ended")
