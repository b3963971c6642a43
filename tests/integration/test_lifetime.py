# SPDX-License-Identifier: Apache-2.0
"""The embedded Triton's life: it starts beside the frontend, is restarted when it dies, and ends with the frontend."""

import re
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import httpx2
import psutil
import pytest

from support.serving import Server, assert_gone

pytestmark = pytest.mark.integration

StartServer = Callable[..., Server]


def traces(server: Server) -> set[Path]:
    """The folder and shared memory regions of its Triton."""
    arguments = " ".join(server.named("tritonserver").cmdline())
    folder, prefix = re.findall(r"--model-repository=(\S+)/models .*shm-region-prefix-name=(\S+)", arguments)[0]
    return {Path(folder), *Path("/dev/shm").glob(f"{prefix}*")}


def test_frontend_is_live_at_once_and_ready_with_triton(echo_servers: StartServer) -> None:
    server = echo_servers()
    server.wait_for(r"Uvicorn running on")
    assert server.get("/health/live").status_code == 200
    assert server.get("/health/ready").status_code == 503
    assert server.post("/echo", json={"text": "a"}).json()["code"] in ("triton_unavailable", "model_not_ready")
    server.wait_until_ready()
    assert server.get("/health/ready").status_code == 200
    assert server.post("/echo", json={"text": "a"}).json() == {"text": "a"}


def test_tritons_log_lines_have_the_frontends_format(echo_server: Server) -> None:
    assert echo_server.wait_for(
        r"(?m)^\d{4}-\d\d-\d\dT[\d:.]+Z INFO    triton: successfully loaded 'echo' \(model_lifecycle\.cc:\d+\)$"
    )


def test_killed_triton_is_restarted(echo_servers: StartServer) -> None:
    server = echo_servers().wait_until_ready()
    stub, leftovers = server.named("triton_python_b"), traces(server)
    server.named("tritonserver").kill()
    server.wait_for(r"Triton ended \(killed\)")
    assert_gone({stub})
    assert not [each for each in leftovers if each.exists()]
    assert server.get("/health/live").status_code == 200
    server.wait_for(r"ready again")
    assert server.get("/health/ready").status_code == 200
    assert server.post("/echo", json={"text": "again"}).json() == {"text": "again"}


def test_request_running_at_tritons_death_fails_and_is_not_repeated(echo_servers: StartServer, tmp_path: Path) -> None:
    server = echo_servers().wait_until_ready()
    running = tmp_path / "running"
    responses: list[httpx2.Response] = []
    thread = threading.Thread(target=lambda: responses.append(server.post("/echo", json={"text": f"wait {running}"})))
    thread.start()
    while not running.exists():
        thread.join(0.02)
    server.named("tritonserver").kill()
    thread.join(30)
    assert responses[0].status_code == 503
    assert responses[0].json()["code"] == "triton_connection_lost"
    assert "may have run" in responses[0].json()["detail"]
    running.unlink()
    server.wait_for(r"ready again")
    assert server.post("/echo", json={"text": "again"}).status_code == 200
    assert not running.exists()  # it was not sent a second time


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_triton_cleanly(echo_servers: StartServer, number: int) -> None:
    server = echo_servers().wait_until_ready()
    leftovers = traces(server)
    assert len(leftovers) > 1
    assert len(server.below()) >= 3  # the guard, tritonserver, the stub
    assert server.stop(number) == 0
    assert not [each for each in leftovers if each.exists()]


def test_triton_ends_with_a_killed_frontend(echo_servers: StartServer) -> None:
    server = echo_servers().wait_until_ready()
    leftovers = traces(server)
    assert len(leftovers) > 1
    below = server.below()
    server.process.kill()
    assert_gone(below)
    assert not [each for each in leftovers if each.exists()]


def test_starting_triton_ends_with_a_killed_frontend(echo_servers: StartServer) -> None:
    server = echo_servers()
    server.wait_for(r"triton: loading: echo")
    below = server.below()
    server.process.kill()
    assert below
    assert_gone(below)


def test_triton_ends_with_a_killed_guard_and_is_restarted(echo_servers: StartServer) -> None:
    server = echo_servers().wait_until_ready()
    triton, stub = server.named("tritonserver"), server.named("triton_python_b")
    (guard,) = psutil.Process(server.process.pid).children()
    guard.kill()
    assert_gone({triton, stub})
    server.wait_for(r"ready again")
    assert server.post("/echo", json={"text": "again"}).status_code == 200


def test_port_in_use_is_a_one_line_error_and_starts_nothing(echo_server: Server, echo_servers: StartServer) -> None:
    late = echo_servers(port=echo_server.port)
    assert late.process.wait(60) == 2
    late.wait_for(rf"{echo_server.port}.*--port")
    assert "Traceback" not in late.log
