# SPDX-License-Identifier: Apache-2.0
"""A real Triton beside the frontend: the `tritonserver` of the nvidia-pytriton wheel, started, watched, restarted.

It runs from a work folder of links, since this Triton's Python backend aborts on a path with a space. `guard.py` stands
between us and it, so that nothing is left behind however this process ends.
"""

import asyncio
import contextlib
import importlib.util
import logging
import os
import re
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from fastapi_triton import guard, machine
from fastapi_triton.stub_watch import StubWatch

logger = logging.getLogger(__name__)
triton_logger = logging.getLogger("triton")

FIRST_BACK_OFF_S = 0.5
LONGEST_BACK_OFF_S = 30.0
# A Triton that ran this long was fine; the next restart need not wait.
STEADY_S = 10.0
# How long Triton waits for running requests when it is told to stop, and when it is killed all the same.
EXIT_TIMEOUT_S = 5
# Shared memory that every instance of a Python model begins with, as far as there is enough for many of them. Triton
# begins with 1 MB and grows; it sometimes dies of growing ("lock_exception") while requests run.
MOST_SHARED_BYTES, LEAST_SHARED_BYTES, INSTANCES = 32 * 1024**2, 1024**2, 64
GRACE_S = 10
LOOPBACK = "127.0.0.1"
# `I1122 10:42:33.123456 4711 model_lifecycle.cc:472] "loading: model:1"`
_LOG_LINE = re.compile(r"^([IWEFV])\d{4} [\d:.]+ \d+ ([\w./-]+:\d+)\] ?\"?(.*?)\"?$")
_LOADED = re.compile(r"successfully loaded '([^']+)'")
_LOG_LEVELS = {"I": logging.INFO, "W": logging.WARNING, "E": logging.ERROR, "F": logging.CRITICAL, "V": logging.DEBUG}


def shared_bytes(free: int) -> int:
    """What one instance begins with, where so many bytes of shared memory are free."""
    return max(LEAST_SHARED_BYTES, min(MOST_SHARED_BYTES, free // INSTANCES))


class EmbeddedTritonError(Exception):
    """This machine cannot run the embedded Triton; the text says why and what to do, for a person."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of one Triton; they stay the same over restarts."""

    http: int
    metrics: int

    @classmethod
    def free(cls, host: str = LOOPBACK) -> Self:
        """Two ports of this machine's address `host` that are free now."""
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(socket.socket()) for _ in range(2)]
            for each in sockets:
                each.bind((host, 0))
            http, metrics = (int(each.getsockname()[1]) for each in sockets)
        return cls(http, metrics)


@dataclass(frozen=True, slots=True)
class Installation:
    """Where the parts of the wheel lie."""

    server: Path
    backends: Path
    stub: Path
    libraries: Path

    @classmethod
    def find(cls) -> Self:
        """Look the wheel up without importing it.

        Raises:
            EmbeddedTritonError: it is not installed.
        """
        spec = importlib.util.find_spec("pytriton")
        if spec is None or spec.origin is None:
            raise EmbeddedTritonError(
                "The embedded Triton is not installed. Install it with: pip install 'fastapi-triton[embedded]'"
            )
        package = Path(spec.origin).parent
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        root = package / "tritonserver"
        return cls(
            server=root / "bin" / "tritonserver",
            backends=root / "backends",
            stub=root / "python_backend_stubs" / version / "triton_python_backend_stub",
            libraries=package.parent / "nvidia_pytriton.libs",
        )


class EmbeddedTriton:
    """Keeps one Triton running while its `async with` is open; `url` says where, from the start."""

    def __init__(
        self, model_repository: Path, *, installation: Installation, libpython: Path, host: str = LOOPBACK
    ) -> None:
        self.model_repository = model_repository.resolve()
        self.host = host
        self.ports = Ports.free(host)
        self.url = f"http://{host}:{self.ports.http}"
        self._installation = installation
        self._libpython = libpython
        self._keeper: asyncio.Task[None] | None = None

    @classmethod
    def prepare(cls, model_repository: Path, *, host: str = LOOPBACK) -> Self:
        """Make sure that it can run here; nothing is started yet. `host` is the address of ours that it listens on.

        Raises:
            EmbeddedTritonError: this machine cannot, or there is no model repository.
        """
        if not model_repository.is_dir():
            raise EmbeddedTritonError(f"There is no model repository at {model_repository}.")
        libpython = require_machine()
        return cls(model_repository, installation=Installation.find(), libpython=libpython, host=host)

    async def __aenter__(self) -> Self:
        """Start Triton; it loads its models while we go on."""
        self._keeper = asyncio.create_task(self._keep_running())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper

    async def _keep_running(self) -> None:
        back_off_s = FIRST_BACK_OFF_S
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            status = await self.run_once()
            if loop.time() - started > STEADY_S:
                back_off_s = FIRST_BACK_OFF_S
            logger.error("Triton ended (%s); it is started again in %.1f s", _ending(status), back_off_s)
            await asyncio.sleep(back_off_s)
            back_off_s = min(2 * back_off_s, LONGEST_BACK_OFF_S)

    async def run_once(self) -> int:
        """One Triton from its start to its end; for who does without `async with`, which starts another each time."""
        folder = _work_folder(self._installation, self.model_repository)
        prefix = f"fastapi_triton_{secrets.token_hex(4)}_"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", guard.__file__, str(folder), prefix, str(GRACE_S), *self._command(folder, prefix),
            cwd=folder,
            env=self._environment(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        logger.info("Triton starts at %s with the models of %s", self.url, self.model_repository)

        def restart(model: str) -> None:
            logger.error("the process of model %s has died; Triton is restarted, since it would not notice", model)
            if process.stdin is not None:
                process.stdin.close()

        watch = StubWatch(folder, on_death=restart)
        try:
            await _pass_on_log(process, on_loaded=watch.loaded)
            return await process.wait()
        finally:
            watch.close()
            if process.stdin is not None:
                process.stdin.close()  # tells the guard to stop Triton
            await asyncio.shield(_drained(process))

    def _command(self, folder: Path, shared_memory_prefix: str) -> list[str]:
        return [
            str(self._installation.server),
            f"--model-repository={folder / 'models'}",
            f"--backend-directory={folder / 'backends'}",
            f"--backend-config=python,shm-region-prefix-name={shared_memory_prefix}",
            f"--backend-config=python,shm-default-byte-size={shared_bytes(shutil.disk_usage(guard.SHARED_MEMORY).free)}",
            f"--http-address={self.host}",
            f"--http-port={self.ports.http}",
            "--allow-grpc=false",
            f"--metrics-address={self.host}",
            f"--metrics-port={self.ports.metrics}",
            "--allow-gpu-metrics=false",
            # A model that does not load shall not take the others with it; readiness says which.
            "--exit-on-error=false",
            f"--exit-timeout-secs={EXIT_TIMEOUT_S}",
            *_trace_options(os.environ),
        ]

    def _environment(self) -> dict[str, str]:
        environment = dict(os.environ)
        # The stub must load the libpython of this very Python, or its compiled packages do not fit.
        folders = [str(self._libpython.parent), str(self._installation.libraries)]
        inherited = environment.get("LD_LIBRARY_PATH")
        environment["LD_LIBRARY_PATH"] = ":".join([*folders, inherited] if inherited else folders)
        # ... and finds this environment's packages through the `python3` that is first on PATH.
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment.get('PATH', os.defpath)}"
        return environment


def _trace_options(environment: Mapping[str, str]) -> list[str]:
    """Have Triton continue the frontend's traces, and trace nothing else, where they go to a collector."""
    endpoint = environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    if not endpoint and (base := environment.get("OTEL_EXPORTER_OTLP_ENDPOINT")):
        endpoint = f"{base.removesuffix('/')}/v1/traces"
    if not endpoint or environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return []
    options = ("mode=opentelemetry", "level=TIMESTAMPS", "rate=0", f"opentelemetry,url={endpoint}")
    return [f"--trace-config={option}" for option in options]


def require_machine() -> Path:
    """The shared libpython, on a machine that can run this Triton.

    Raises:
        EmbeddedTritonError: it cannot; every reason is named.
    """
    facts = machine.gather(Path(tempfile.gettempdir()))
    obstacles = machine.obstacles(facts, context="embedded")
    if obstacles or facts.libpython is None:
        raise EmbeddedTritonError("\n".join(obstacle.sentence for obstacle in obstacles))
    return Path(facts.libpython)


def _work_folder(installation: Installation, model_repository: Path) -> Path:
    """A folder of links without a space in its path. The guard removes it."""
    parent = tempfile.gettempdir()
    folder = Path(tempfile.mkdtemp(prefix="fastapi-triton-", dir="/tmp" if " " in parent else parent))  # noqa: S108
    backend = folder / "backends" / "python"
    backend.mkdir(parents=True)
    for part in (installation.backends / "python").iterdir():
        (backend / part.name).symlink_to(part)
    (backend / installation.stub.name).symlink_to(installation.stub)
    (folder / "models").symlink_to(model_repository)
    return folder


async def _pass_on_log(process: asyncio.subprocess.Process, *, on_loaded: Callable[[str], object] = str) -> None:
    """Triton's lines, in our log's format, until it closes its output. `on_loaded` is told of models that it loaded."""
    if process.stdout is None:
        raise RuntimeError("Triton was started without a pipe for its log")
    pending = b""
    while chunk := await process.stdout.read(65_536):
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            text = line.decode("utf-8", "replace").rstrip()
            _log_line(text)
            if loaded := _LOADED.search(text):
                on_loaded(loaded[1])


def _log_line(line: str) -> None:
    told = _LOG_LINE.match(line)
    if told is not None and told[3]:
        level, place, text = told.groups()
        triton_logger.log(_LOG_LEVELS[level], "%s (%s)", text, place)
    elif line.startswith(("+", "|")):  # the tables of its options, thirty lines at every start
        triton_logger.debug("%s", line)
    elif line and told is None:  # what a Python model prints
        triton_logger.info("%s", line)


async def _drained(process: asyncio.subprocess.Process) -> None:
    """Wait for the guard's end, reading on so that a full pipe never holds Triton's shutdown up."""
    await _pass_on_log(process)
    await process.wait()


def _ending(status: int) -> str:
    return "killed" if status == 9 else f"exit status {status}"
