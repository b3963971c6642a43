# SPDX-License-Identifier: Apache-2.0
"""`fastapi-triton serve --embedded` in a process of its own, with a real Triton."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

APPS = Path(__file__).with_name("apps")
ECHO_APP = APPS / "echo_app"
COUNT_APP = APPS / "count_app"
FUNCTION_APP = APPS / "function_app"
# After an installation, the first start compiles what it imports, on busy cores.
PATIENCE_S = 300.0


def free_port() -> int:
    with socket.socket() as each:
        each.bind(("127.0.0.1", 0))
        return int(each.getsockname()[1])


class Server:
    """One running frontend. A thread reads its log; `wait_for` waits for a line."""

    def __init__(
        self,
        arguments: list[str],
        *,
        folder: Path,
        port: int | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.lines: list[str] = []
        self._grown = threading.Condition()
        self.process = subprocess.Popen(
            [*arguments, "--port", str(self.port)],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._below: set[psutil.Process] = set()

    def _read(self) -> None:
        if self.process.stdout is None:
            raise RuntimeError("started without a pipe")
        for line in self.process.stdout:
            with self._grown:
                self.lines.append(line.rstrip("\n"))
                self._grown.notify_all()

    @property
    def log(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, pattern: str, *, times: int = 1, timeout_s: float = PATIENCE_S) -> re.Match[str]:
        """Wait until the log has this many matches, and return the last."""
        with self._grown:
            found: list[re.Match[str]] = []

            def is_there() -> bool:
                found[:] = list(re.finditer(pattern, self.log))
                return len(found) >= times or self.process.poll() is not None

            self._grown.wait_for(is_there, timeout_s)
            assert len(found) >= times, f"{pattern!r} did not appear in the log:\n{self.log}"
            return found[times - 1]

    def wait_until_ready(self) -> "Server":
        self.wait_for(r"Ready: http://")
        self.below()
        return self

    @property
    def triton_url(self) -> str:
        return self.wait_for(r"Triton starts at http://(127\.0\.0\.1:\d+)")[1]

    def below(self) -> set[psutil.Process]:
        """Every descendant process, including those seen earlier."""
        if self.process.poll() is None:
            self._below |= set(psutil.Process(self.process.pid).children(recursive=True))
        return self._below

    def named(self, name: str) -> psutil.Process:
        """The running descendant process with this name."""
        (found,) = (each for each in self.below() if each.is_running() and _name(each).startswith(name))
        return found

    def post(self, path: str, **arguments: object) -> httpx2.Response:
        return httpx2.post(self.url + path, timeout=120, **arguments)  # type: ignore[arg-type]

    def get(self, path: str) -> httpx2.Response:
        return httpx2.get(self.url + path, timeout=30)

    def counted(self, series: str) -> float:
        """The value of a counter on Triton's metrics port."""
        address = self.wait_for(r"Started Metrics Service at ([\d.:]+)")[1]
        found = re.search(rf"(?m)^{re.escape(series)} (\S+)$", httpx2.get(f"http://{address}/metrics").text)
        return float(found[1]) if found else 0.0

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Stop the server, assert that no process is left, and return its exit status."""
        self.below()
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(60)
        self._reader.join(30)
        if self.process.stdout is not None:
            self.process.stdout.close()
        assert_gone(self._below)
        return status

    def drop(self) -> None:
        """Kill the server, for tests that do not check its shutdown: Triton needs four seconds for its own."""
        for each in self.below():
            if _name(each).startswith("triton"):
                _kill(each)
        self.stop()


def _name(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()).rsplit("/", 1)[-1] if process.name() == "python" else process.name()
    except psutil.NoSuchProcess:
        return ""


def _kill(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):  # it may end at any time, with the process that started it
        process.kill()


def assert_gone(processes: set[psutil.Process]) -> None:
    """Assert that every process ends without being killed by the test."""
    _, alive = psutil.wait_procs(list(processes), timeout=30)
    for process in alive:
        _kill(process)
    assert not alive, f"left behind: {alive}"


@contextmanager
def serving(
    *arguments: str, folder: Path, port: int | None = None, environment: Mapping[str, str] = os.environ
) -> Iterator[Server]:
    command = [sys.executable, "-m", "fastapi_triton", "serve", *arguments]
    server = Server(command, folder=folder, port=port, environment=environment)
    try:
        yield server
    finally:
        server.drop()


@contextmanager
def running(arguments: list[str], *, until: str, **popen: Any) -> Iterator[None]:
    """Run another server; return when its standard error has this line."""
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, **popen)
    try:
        if process.stderr is None:
            raise RuntimeError("started without a pipe")
        said = []
        for line in process.stderr:
            said.append(line)
            if until in line:
                break
        else:
            pytest.fail(f"{arguments[0]} did not print that line:\n" + "".join(said))
        yield
    finally:
        process.terminate()
        process.communicate(timeout=30)


@contextmanager
def running_uvicorn(folder: Path, *, port: int, triton_url: str, python: str = sys.executable) -> Iterator[str]:
    """The documented uvicorn command. Returns its URL when it listens."""
    command = [python, "-m", "uvicorn", "main:app", "--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, "TRITON_URL": triton_url}
    with running(command, until="Uvicorn running on", cwd=folder, env=environment):
        yield f"http://127.0.0.1:{port}"
