# SPDX-License-Identifier: Apache-2.0
"""Signals and workers: frontend processes with an external Triton."""

import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import psutil
import pytest

from support.prometheus_scrape import parsed
from support.serving import COUNT_APP, Server, assert_gone

pytestmark = pytest.mark.integration

Frontends = Callable[..., Server]


@pytest.fixture
def frontends(count_server: Server) -> Iterator[Frontends]:
    """Starts frontends in front of the shared Triton."""
    servers: list[Server] = []

    def start(*arguments: str) -> Server:
        command = [sys.executable, "-m", "fastapi_triton", "serve", "--triton", f"http://{count_server.triton_url}"]
        servers.append(Server([*command, *arguments], folder=COUNT_APP))
        return servers[-1].wait_until_ready()

    yield start
    for server in servers:
        server.stop(signal.SIGKILL)


class StreamClient(threading.Thread):
    """A client that reads events in a thread. Its request continues when the file `go` exists."""

    def __init__(self, server: Server, folder: Path) -> None:
        super().__init__(daemon=True)
        self.server, self.folder = server, folder
        self.has_begun = threading.Event()
        self.address: tuple[str, int] = ("", 0)  # its own end of the connection
        self.events: list[tuple[str, dict[str, object]]] = []
        self.error: httpx2.HTTPError | None = None
        self.start()
        assert self.has_begun.wait(30), server.log

    def run(self) -> None:
        body = {"text": f"hold {self.folder}"}
        accept = {"Accept": "text/event-stream"}
        name = ""
        try:
            with httpx2.stream("POST", f"{self.server.url}/count", json=body, headers=accept, timeout=60) as response:
                self.address = response.extensions["network_stream"].get_extra_info("client_addr")
                for line in response.iter_lines():
                    kind, _, value = line.partition(": ")
                    if kind == "event":
                        name = value
                    elif kind == "data":
                        self.events.append((name, json.loads(value)))
                        self.has_begun.set()
        except httpx2.HTTPError as error:
            self.error = error

    def last(self) -> tuple[str, dict[str, object]]:
        self.join(30)
        return self.events[-1]


def until_cancelled(folder: Path) -> None:
    """Wait until the model has noticed the disconnect."""
    waiting = threading.Event()
    while not list(folder.glob("left-*")):
        waiting.wait(0.01)


def until_counted(server: Server, count: int) -> None:
    """Wait until the metrics have this count. Each worker reports the sum of all workers, updated every second."""
    deadline = time.monotonic() + 30
    counted = -1.0
    while counted != count:
        assert time.monotonic() < deadline, f"{counted} of {count}"
        counted = parsed(server.get("/metrics").text).of("fastapi_triton_requests_total", route="/count", status="200")


@pytest.mark.slow
def test_sigterm_lets_running_requests_finish(frontends: Frontends, tmp_path: Path) -> None:
    server = frontends()
    client = StreamClient(server, tmp_path)
    server.process.send_signal(signal.SIGTERM)
    server.wait_for(r"no new requests are accepted; 1 are running")
    (tmp_path / "go").touch()
    assert client.last()[0] == "completed"
    assert server.process.wait(30) == 0


def test_requests_longer_than_the_grace_period_are_cancelled_with_an_error(
    frontends: Frontends, tmp_path: Path
) -> None:
    server = frontends("--shutdown-grace-s", "0.2")
    client = StreamClient(server, tmp_path)
    server.process.send_signal(signal.SIGTERM)
    name, data = client.last()
    assert (name, data["code"]) == ("error", "shutting_down")
    until_cancelled(tmp_path)
    assert server.process.wait(30) == 0
    assert "Traceback" not in server.log


@pytest.mark.slow
def test_second_signal_ends_the_process_at_once(frontends: Frontends, tmp_path: Path) -> None:
    server = frontends()
    client = StreamClient(server, tmp_path)
    server.process.send_signal(signal.SIGINT)
    server.wait_for(r"no new requests are accepted")
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(30) == -signal.SIGTERM
    client.join(30)
    assert client.error is not None
    until_cancelled(tmp_path)


def test_workers_share_one_port_and_a_killed_worker_is_replaced(frontends: Frontends, tmp_path: Path) -> None:
    server = frontends("--workers", "2")
    server.wait_for(r"Application startup complete", times=2)
    first, second = psutil.Process(server.process.pid).children()
    # Requests of the other worker are not affected.
    client = StreamClient(server, tmp_path)
    # Both workers have connections: to Triton, and from readiness probes.
    is_first = any(each.raddr == client.address for each in first.net_connections())
    (second if is_first else first).kill()
    server.wait_for(r"worker \d+ starts", times=3)
    server.wait_for(r"Application startup complete", times=3)
    assert [server.post("/count", json={"text": "echo a"}).status_code for _ in range(20)] == [200] * 20
    until_counted(server, 20)
    server.process.send_signal(signal.SIGTERM)
    server.wait_for(r"no new requests are accepted; 1 are running")
    (tmp_path / "go").touch()
    assert client.last()[0] == "completed"
    assert server.process.wait(30) == 0


@pytest.mark.slow
def test_workers_end_with_their_parent(frontends: Frontends) -> None:
    server = frontends("--workers", "2")
    below = server.below()
    assert len(below) == 2
    server.process.kill()
    assert_gone(below)
