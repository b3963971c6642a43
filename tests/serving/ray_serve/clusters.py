# SPDX-License-Identifier: Apache-2.0
"""A cluster in a process of its own: Ray, the app and real Tritons."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from support.paths import ROOT
from support.serving import Server

# Ray ends if its agents do not start within 30 s; a busy machine needs longer.
ATTEMPTS = 4


class ClusterServer(Server):
    """A server whose Tritons are child processes of Ray."""

    def tritons(self) -> list[psutil.Process]:
        """The Tritons that run now."""
        return [each for each in self.below() if each.is_running() and each.name() == "tritonserver"]

    def _read(self) -> None:
        super()._read()
        with self._grown:  # the process has ended: wake those that wait for a line
            self._grown.notify_all()

    def becomes_ready(self) -> bool:
        """Wait until the server is ready. Returns False if it has ended."""
        try:
            self.wait_until_ready()
        except AssertionError:
            if self.process.poll() is None:
                raise
            return False
        return True

    def wait_until_ready(self) -> "ClusterServer":
        self.wait_for(r"Ready: http://", timeout_s=400)
        self.below()
        return self


@contextmanager
def ray_nodes(folder: Path, **options: object) -> Iterator[ClusterServer]:
    """A head with the frontend, and two nodes for one Triton each; by default with two Tritons."""
    for _ in range(ATTEMPTS):
        server = _start(folder, options)
        try:
            if server.becomes_ready():
                yield server
                return
        finally:
            server.stop(signal.SIGTERM)
    raise AssertionError(f"Ray did not start:\n{server.log}")


@contextmanager
def ray_nodes_that_fail(folder: Path, **options: object) -> Iterator[ClusterServer]:
    """Like `ray_nodes`, with options that keep it from becoming ready."""
    server = _start(folder, options)
    try:
        yield server
    finally:
        server.stop(signal.SIGTERM)


def _start(folder: Path, options: dict[str, object]) -> ClusterServer:
    command = [sys.executable, str(Path(__file__).with_name("ray_nodes.py"))]
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = os.environ | {
        "RAY_NODES_OPTIONS": json.dumps(options),
        "PYTHONPATH": paths,
        "RAY_DEDUP_LOGS": "0",  # tests wait for lines of each Triton
    }
    return ClusterServer(command, folder=folder, environment=environment)
