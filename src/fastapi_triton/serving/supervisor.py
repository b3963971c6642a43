# SPDX-License-Identifier: Apache-2.0
"""Several processes that serve one app from one port. One that dies is replaced; all end together.

They share one listening socket, so a connection that waits to be taken is not lost with a worker. Whatever else the
frontend counts or limits, it does so in each of them: `max_in_flight`, `max_connections`, the knowledge of Triton.
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
# A worker that ran this long was fine; the next one need not wait.
STEADY_S = 30.0
# The most bytes of a worker's report about its readiness, as JSON.
_MAX_REPORT_BYTES = 1024 * 1024


class WorkerExitedError(Exception):
    """A worker ended unasked."""


@dataclass(frozen=True, slots=True)
class WorkersPlan:
    """How many processes, and what they need to find the app."""

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
        # Of those workers that have reported: whether they are ready.
        self._is_ready: dict[int, bool] = {}
        self._running: set[asyncio.subprocess.Process] = set()
        self._stopping = asyncio.Event()
        self._environment: dict[str, str] = {}

    def stop(self) -> None:
        """Have all of them finish what they have begun, and end."""
        self._stopping.set()
        self._shared.close()  # else new connections would wait in vain
        for process in self._running:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()

    async def run(self) -> None:
        """Until `stop` was called and the last of them has ended."""
        with tempfile.TemporaryDirectory(prefix="fastapi-triton-metrics-") as folder:
            # The workers share their metrics here, so that /metrics of any of them shows those of all.
            self._environment = {METRICS_FOLDER: folder, **os.environ}
            async with asyncio.TaskGroup() as slots:
                for number in range(1, self._count + 1):
                    slots.create_task(self._keep_running(number))

    async def _keep_running(self, number: int) -> None:
        task = BackgroundTask(
            f"worker {number}",
            consequence="One worker process less serves requests.",
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
                stdin=theirs.fileno(),  # closes when we go, however we do
                pass_fds=(descriptor,),
                env=self._environment,
                start_new_session=True,  # the terminal's Ctrl-C is ours to pass on
            )  # fmt: skip
            theirs.close()
            self._running.add(process)
            logger.info("worker %d starts", process.pid)
            if self._stopping.is_set():  # it was, while this one was being started
                process.terminate()
            reading = asyncio.create_task(self._read_reports(process.pid, ours))
            try:
                return await process.wait()
            finally:
                reading.cancel()
                await asyncio.wait([reading])
                self._running.discard(process)

    async def _read_reports(self, worker: int, connection: socket.socket) -> None:
        """The app is ready while one of its workers is."""
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
