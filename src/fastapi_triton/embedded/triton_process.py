# SPDX-License-Identifier: Apache-2.0
"""Starts, watches and restarts the `tritonserver` of the nvidia-pytriton wheel, beside the frontend.

It runs from a work folder of links, since this Triton's Python backend aborts on a path with a space. `guard.py` runs
between this process and Triton, and cleans up however this process ends.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from fastapi_triton.core.background import BackgroundTask
from fastapi_triton.embedded import guard, preflight, processes
from fastapi_triton.embedded.installation import EmbeddedTritonError, Installation, make_work_folder, require_machine
from fastapi_triton.embedded.stub_monitor import StubMonitor
from fastapi_triton.embedded.triton_log import TritonLog

logger = logging.getLogger(__name__)

# After a Triton that served this long, the next restart does not wait.
STEADY_S = 10.0
LONGEST_BACKOFF_S = 30.0
# `serve` ends after this number of failed starts in a row, since the cause is probably permanent.
MAX_FAILED_STARTS = 3
# How long Triton waits for running requests when it is stopped, and when the guard kills it.
EXIT_TIMEOUT_S = 5
GRACE_S = 10
# The initial shared memory of an instance of a Python model, if there is enough for INSTANCES of them. Triton's own
# default is 1 MB, which grows; growing while requests run sometimes crashes it ("lock_exception").
MOST_SHARED_BYTES, LEAST_SHARED_BYTES, INSTANCES = 32 * 1024**2, 1024**2, 64
LOOPBACK = "127.0.0.1"


def shared_bytes(free: int) -> int:
    """The initial shared memory of one instance, if `free` bytes of shared memory are free."""
    return max(LEAST_SHARED_BYTES, min(MOST_SHARED_BYTES, free // INSTANCES))


class TritonExitedError(Exception):
    """A Triton that we started has ended. The text has its exit status and its last error."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of one Triton. Restarts do not change them."""

    http: int
    metrics: int
    grpc: int

    @classmethod
    def free(cls, host: str = LOOPBACK) -> Self:
        """Find free ports of this machine's address `host`."""
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
            for each in sockets:
                each.bind((host, 0))
            return cls(*(int(each.getsockname()[1]) for each in sockets))


class Observer(Protocol):
    """Is notified of dead processes, which Triton itself does not report. `ModelProcesses` is an observer."""

    def died(self, model: str) -> None:
        """A stub process of this model has died."""
        ...

    def triton_ended(self) -> None:
        """Triton and all its processes have ended."""
        ...


class EmbeddedTriton:
    """Keeps one Triton running inside `async with`. Its `url` is known before it starts.

    With `has_grpc` it opens its gRPC port too, at `grpc_url`. `observer`, if set, is notified of a dead stub process
    before Triton is restarted.
    """

    observer: Observer | None = None
    stub_monitor: type[StubMonitor] = StubMonitor

    def __init__(
        self,
        model_repository: Path,
        *,
        installation: Installation,
        libpython: Path,
        host: str = LOOPBACK,
        has_grpc: bool = False,
    ) -> None:
        self.model_repository = model_repository.resolve()
        self.host = host
        self.ports = Ports.free(host)
        self.url = f"http://{host}:{self.ports.http}"
        self.grpc_url = f"grpc://{host}:{self.ports.grpc}" if has_grpc else None
        self._installation = installation
        self._libpython = libpython
        self._running = contextlib.AsyncExitStack()
        self._task = BackgroundTask(
            "embedded Triton",
            consequence="No model runs until Triton is started again.",
            expected=(OSError, TritonExitedError),
            longest_backoff_s=LONGEST_BACKOFF_S,
            steady_s=STEADY_S,
        )
        self._has_served = False
        # Set to the reason when Triton has failed to start too often.
        self._given_up: asyncio.Future[str] | None = None

    @classmethod
    def prepare(cls, model_repository: Path, *, host: str = LOOPBACK, has_grpc: bool = False) -> Self:
        """Check that Triton can run here, without starting it. It will listen on `host`, an address of this machine.

        Raises:
            EmbeddedTritonError: this machine cannot run it, or there is no model repository.
        """
        if not model_repository.is_dir():
            raise EmbeddedTritonError(f"There is no model repository at {model_repository}.")
        libpython = require_machine()
        installation = Installation.find()
        return cls(model_repository, installation=installation, libpython=libpython, host=host, has_grpc=has_grpc)

    async def __aenter__(self) -> Self:
        """Start Triton. Does not wait until it has loaded its models."""
        self._given_up = asyncio.get_running_loop().create_future()
        await self._running.enter_async_context(self._task.repeating(self._run))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._running.aclose()

    async def given_up(self) -> str:
        """Wait until Triton has failed to start `MAX_FAILED_STARTS` times without ever serving. Returns the reason.

        Once Triton has served, it is restarted for ever, with backoff, and this never returns.
        """
        if self._given_up is None:
            raise RuntimeError("EmbeddedTriton is used outside its `async with`")
        return await asyncio.shield(self._given_up)

    async def _run(self) -> None:
        """Run one Triton, from its start to its end.

        Raises:
            TritonExitedError: it ended.
            OSError: it cannot be started, for example because the disk is full.
        """
        try:
            raise TritonExitedError(await self.run_once(self._serves))
        except Exception as error:
            is_last = self._task.num_failures + 1 >= MAX_FAILED_STARTS
            if is_last and not self._has_served and self._given_up is not None and not self._given_up.done():
                self._given_up.set_result(str(error))
            raise

    def _serves(self) -> None:
        self._has_served = True
        self._task.succeeded()

    async def run_once(self, on_started: Callable[[], object] = lambda: None) -> str:
        """Run one Triton to its end, without `async with`. Returns its exit status and its last error as a sentence.

        Raises:
            OSError: it cannot be started.
        """
        has_gpu = await asyncio.to_thread(preflight.has_nvidia_gpu)
        folder = await asyncio.to_thread(make_work_folder, self._installation, self.model_repository)
        prefix = f"fastapi_triton_{secrets.token_hex(4)}_"
        try:
            process = await self._start(folder, prefix)
        except OSError:
            await asyncio.to_thread(processes.end_orphans, folder, prefix)
            raise
        logger.info("Triton starts at %s with the models in %s", self.url, self.model_repository)
        pipe, output = process.stdin, process.stdout
        if pipe is None or output is None:
            raise RuntimeError("Triton was started without pipes")

        def restart(model: str) -> None:
            logger.error("the process of model %s has died; restarting Triton, which does not notice it", model)
            if self.observer is not None:
                self.observer.died(model)  # fails the model's requests: they never end, and Triton would wait for them
            pipe.close()

        watch = self.stub_monitor(folder, on_death=restart)
        log = TritonLog(has_gpu=has_gpu, on_loaded=watch.loaded, on_started=on_started)
        reading = asyncio.create_task(log.read(output), name="Triton's log")
        ending = asyncio.create_task(processes.until_exit(process.pid), name="Triton's end")
        try:
            await asyncio.wait([reading, ending], return_when=asyncio.FIRST_COMPLETED)
        finally:
            watch.close()
            pipe.close()  # the guard stops Triton
            status = await asyncio.shield(_ended(process, ending, reading, folder, prefix))
            if self.observer is not None:
                self.observer.triton_ended()
        how = "killed" if abs(status) == signal.SIGKILL else f"exit status {status}"
        return f"Triton ended ({how}): {log.reason}" if log.reason else f"Triton ended ({how})"

    async def _start(self, folder: Path, shared_memory_prefix: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-I", guard.__file__, str(folder), shared_memory_prefix, str(GRACE_S),
            *self._command(folder, shared_memory_prefix),
            cwd=folder,
            env={**self._environment(), processes.MARK: str(folder)},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip

    def _command(self, folder: Path, shared_memory_prefix: str) -> list[str]:
        return [
            str(self._installation.server),
            f"--model-repository={folder / 'models'}",
            f"--backend-directory={folder / 'backends'}",
            f"--backend-config=python,shm-region-prefix-name={shared_memory_prefix}",
            f"--backend-config=python,shm-default-byte-size={shared_bytes(shutil.disk_usage(guard.SHARED_MEMORY).free)}",
            f"--http-address={self.host}",
            f"--http-port={self.ports.http}",
            *self._grpc_options(),
            f"--metrics-address={self.host}",
            f"--metrics-port={self.ports.metrics}",
            "--allow-gpu-metrics=false",
            # Serve the other models if one does not load; readiness names it.
            "--exit-on-error=false",
            f"--exit-timeout-secs={EXIT_TIMEOUT_S}",
            *_trace_options(os.environ),
        ]

    def _grpc_options(self) -> list[str]:
        if self.grpc_url is None:
            return ["--allow-grpc=false"]
        return [f"--grpc-address={self.host}", f"--grpc-port={self.ports.grpc}"]

    def _environment(self) -> dict[str, str]:
        environment = dict(os.environ)
        # The stub process must load the libpython of this Python, or compiled packages do not work.
        folders = [str(self._libpython.parent), str(self._installation.libraries)]
        inherited = environment.get("LD_LIBRARY_PATH")
        environment["LD_LIBRARY_PATH"] = ":".join([*folders, inherited] if inherited else folders)
        # It finds this environment's packages through the first `python3` on PATH.
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment.get('PATH', os.defpath)}"
        return environment


def _trace_options(environment: Mapping[str, str]) -> list[str]:
    """The options with which Triton continues the frontend's traces; none if no collector is configured."""
    endpoint = environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    if not endpoint and (base := environment.get("OTEL_EXPORTER_OTLP_ENDPOINT")):
        endpoint = f"{base.removesuffix('/')}/v1/traces"
    if not endpoint or environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return []
    options = ("mode=opentelemetry", "level=TIMESTAMPS", "rate=0", f"opentelemetry,url={endpoint}")
    return [f"--trace-config={option}" for option in options]


async def _ended(
    process: asyncio.subprocess.Process,
    ending: asyncio.Task[None],
    reading: asyncio.Task[None],
    folder: Path,
    shared_memory_prefix: str,
) -> int:
    """Wait for the guard, end the processes that it left behind, read the rest of the log. Returns the exit status."""
    await ending
    num_orphans = await asyncio.to_thread(processes.end_orphans, folder, shared_memory_prefix)
    if num_orphans:
        logger.warning("Triton's guard was killed; ended %d processes that it left behind", num_orphans)
    await reading
    return await process.wait()
