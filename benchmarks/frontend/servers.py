# SPDX-License-Identifier: Apache-2.0
"""The measured server processes, in front of one Triton. Each has one worker and no access log."""

import asyncio
import contextlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks import ROOT
from benchmarks.common import cpu_time
from benchmarks.common.free_port import free_port
from benchmarks.frontend import litserve_environment
from benchmarks.frontend.peers import BEFORE

START_TIMEOUT_S = 120
NGINX_CONFIG = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    # Request and response bodies stay in memory.
    client_max_body_size 20m;
    client_body_buffer_size 4m;
    proxy_buffer_size 64k;
    proxy_buffers 40 64k;
    proxy_busy_buffers_size 256k;
    proxy_max_temp_file_size 0;
    keepalive_requests 10000000;
    upstream triton {{ server {triton}; keepalive 64; keepalive_requests 10000000; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://triton;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class Launch:
    """The values that a server's command needs."""

    port: int
    triton_url: str
    folder: Path  # its own, removed at the end


@dataclass(frozen=True, slots=True)
class Server:
    """The command of a server."""

    name: str
    command: Callable[[Launch], list[str]]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Running:
    """A running server. Its processes are those that it had after a warm-up."""

    port: int
    pid: int

    def cpu_seconds(self) -> float:
        return cpu_time.seconds(cpu_time.tree(self.pid))


def _uvicorn(app: str) -> Callable[[Launch], list[str]]:
    module = f"benchmarks.frontend.apps.{app}:app"
    options = ("--no-access-log", "--log-level", "warning")
    return lambda launch: [sys.executable, "-m", "uvicorn", module, "--port", str(launch.port), *options]


def _ours(launch: Launch) -> list[str]:
    app = "benchmarks.frontend.apps.ours:app"
    return [sys.executable, "-m", "fastapi_triton", "serve", app, "--port", str(launch.port)]


def _layers(launch: Launch) -> list[str]:
    command = _uvicorn("layers")(launch)
    return [*command, "--http", "fastapi_triton.serving.http_protocol:Protocol"]


def _without_framework(launch: Launch) -> list[str]:
    return [sys.executable, "-m", "benchmarks.frontend.apps.without_framework", str(launch.port)]


def _nginx(launch: Launch) -> list[str]:
    config = launch.folder / "nginx.conf"
    triton = launch.triton_url.removeprefix("http://")
    config.write_text(NGINX_CONFIG.format(folder=launch.folder, port=launch.port, triton=triton))
    return ["nginx", "-c", str(config), "-e", str(launch.folder / "error.log")]


def _litserve(launch: Launch) -> list[str]:
    app = ROOT / "benchmarks" / "frontend" / "apps" / "litserve_echo.py"
    return [str(litserve_environment.python()), str(app), str(launch.port)]


SERVERS = {
    server.name: server
    for server in (
        Server("ours", _ours),
        Server(BEFORE, _ours),
        Server("nginx", _nginx),
        Server("naive", _uvicorn("naive")),
        Server("aio", _uvicorn("aio")),
        Server("aio-without-gzip", _uvicorn("aio"), {"WITHOUT_GZIP": "1"}),
        Server("litserve", _litserve),
        Server("without-framework", _without_framework),
        *(Server(f"layers-{number}", _layers, {"LAYERS": str(number)}) for number in range(1, 6)),
    )
}


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """Check out the repository at a commit, into a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [shutil.which("git") or "git", "archive", "--format=tar", commit]
        packed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
        with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as files:
            files.extractall(folder, filter="data")
        yield Path(folder)


@asynccontextmanager
async def running(server: Server, triton_url: str, root: Path = ROOT) -> AsyncIterator[Running]:
    """Start a server from the sources in `root`, wait until it listens, and stop it at the end."""
    with tempfile.TemporaryDirectory() as folder:
        launch = Launch(free_port(), triton_url, Path(folder))
        process = await asyncio.create_subprocess_exec(
            *server.command(launch),
            cwd=root,
            env={
                **os.environ,
                "PYTHONPATH": f"{root / 'src'}:{root}",
                "TRITON_URL": triton_url,
                "FASTAPI_TRITON_LOG_LEVEL": "warning",
                "OTEL_SDK_DISABLED": "true",  # no traces, even if the SDK is installed
                **server.environment,
            },
            stdout=asyncio.subprocess.DEVNULL,
        )
        try:
            await _listens(launch.port, process)
            yield Running(launch.port, process.pid)
        finally:
            await _stop(process)


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Stop the server and its descendants: LitServe's workers would outlive it."""
    if process.returncode is None:
        below = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        await process.wait()
        for each in below:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()


async def _listens(port: int, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(START_TIMEOUT_S):
        while process.returncode is None:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.1)
            else:
                writer.close()
                return
    raise RuntimeError(f"a server exited with status {process.returncode} before it listened")
