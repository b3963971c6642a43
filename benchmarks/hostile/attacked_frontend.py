# SPDX-License-Identifier: Apache-2.0
"""The frontend in its own process, its memory, and a liveness probe in another process."""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import ROOT
from benchmarks.common.free_port import free_port

START_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Frontend:
    """A running frontend, on `port`."""

    port: int
    pid: int

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def get(self, path: str) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path)
            return connection.getresponse().read()
        finally:
            connection.close()

    def longest_block_s(self) -> float:
        """The longest block of the event loop since the last call."""
        return float(json.loads(self.get("/longest-block"))["seconds"])

    @property
    def rss_mb(self) -> float:
        return self._status("VmRSS")

    @property
    def peak_mb(self) -> float:
        """The highest resident memory since `forget_peak`."""
        return self._status("VmHWM")

    def forget_peak(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def _status(self, name: str) -> float:
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1000 for line in lines if line.startswith(name))


@contextmanager
def running(**settings: object) -> Iterator[Frontend]:
    """Start the frontend with these settings, wait until it is live, and stop it at the end."""
    port = free_port()
    environment = {f"FASTAPI_TRITON_{name.upper()}": str(value) for name, value in settings.items()}
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.hostile.app", str(port)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        frontend = Frontend(port, process.pid)
        _wait_until_live(frontend)
        yield frontend
    finally:
        process.terminate()
        process.wait()


def _wait_until_live(frontend: Frontend) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            frontend.get("/health/ready")
            frontend.get("/models")
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


@contextmanager
def probing(frontend: Frontend) -> Iterator[subprocess.Popen[str]]:
    """Run a liveness probe on the frontend."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.hostile.liveness_probe", str(frontend.port)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def longest_wait_s(probe: subprocess.Popen[str]) -> float:
    """The longest wait for `/health/live` since the last call."""
    if probe.stdin is None or probe.stdout is None:
        raise RuntimeError("the probe was started without pipes")
    probe.stdin.write("\n")
    probe.stdin.flush()
    return float(probe.stdout.readline())
