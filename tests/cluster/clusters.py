# SPDX-License-Identifier: Apache-2.0
"""`fastapi-triton serve --cluster` as a process of its own: Ray, the app and real Tritons."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from serving import Server


class ClusterServer(Server):
    """Its Tritons are below Ray's processes, not below one of ours alone."""

    def tritons(self) -> list[psutil.Process]:
        """Those that run now."""
        return [each for each in self.below() if each.is_running() and each.name() == "tritonserver"]

    def wait_until_ready(self) -> "ClusterServer":
        self.wait_for(r"Ready: http://", timeout_s=400)
        self.below()
        return self


@contextmanager
def cluster(folder: Path, *arguments: str, replicas: int = 2) -> Iterator[ClusterServer]:
    command = [sys.executable, "-m", "fastapi_triton", "serve", "--cluster", str(replicas), *arguments]
    server = ClusterServer(command, folder=folder)
    try:
        yield server.wait_until_ready()
    finally:
        server.stop(signal.SIGTERM)
