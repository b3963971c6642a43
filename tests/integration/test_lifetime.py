# SPDX-License-Identifier: Apache-2.0
"""The embedded Triton's life: it starts beside the frontend, is restarted when it dies, and never outlives it."""

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
    """What its Triton has on this machine: a folder, and regions of shared memory."""
    arguments = " ".join(server.named("tritonserver").cmdline())
    folder, prefix = re.findall(r"--model-repository=(\S+)/models .*shm-region-prefix-name=(\S+)", arguments)[0]
    return {Path(folder), *Path("/dev/shm").glob(f"{prefix}*")}


def test_live_at_once_and_ready_when_triton_is(echo_servers: StartServer) -> None:
    server = echo_servers()
    server.wait_for(r"Uvicorn running on")
    assert server.get("/health/live").status_code == 200
    assert server.get("/health/ready").status_code == 503
    assert server.post("/echo", json={"text": "a"}).json()["code"] in ("triton_unavailable", "model_not_ready")
    server.wait_until_ready()
    assert server.get("/health/ready").status_code == 200
    assert server.post("/echo", json={"text": "a"}).json() == {"text": "a"}


def test_tritons_log_comes_in_the_frontends_format(echo_server: Server) -> None:
    assert echo_server.wait_for(
        r"(?m)^\d{4}-\d\d-\d\dT[\d:.]+Z INFO    triton: successfully loaded 'echo' \(model_lifecycle\.cc:\d+\)$"
    )


def test_a_killed_triton_is_started_again_and_serves(echo_servers: StartServer) -> None:
    server = echo_servers().wait_until_ready()
    stub, left = server.named("triton_python_b"), traces(server)
    server.named("tritonserver").kill()
    server.wait_for(r"Triton ended \(killed\)")
    assert_gone({stub})
    assert not [each for each in left if each.exists()]
    assert server.get("/health/live").status_code == 200
    server.wait_for(r"ready again")
    assert server.get("/health/ready").status_code == 200
    assert server.post("/echo", json={"text": "again"}).json() == {"text": "again"}


def test_a_request_that_was_running_when_triton_died_is_told_so_and_not_repeated(
    echo_servers: StartServer, tmp_path: Path
) -> None:
    server = echo_servers().wait_until_ready()
    running = tmp_path / "running"
    answers: list[httpx2.Response] = []
    caller = threading.Thread(target=lambda: answers.append(server.post("/echo", json={"text": f"wait {running}"})))
    caller.start()
    while not running.exists():
        caller.join(0.02)
    server.named("tritonserver").kill()
    caller.join(30)
    assert answers[0].status_code == 503
    assert answers[0].json()["code"] == "triton_connection_lost"
    assert "may have run" in answers[0].json()["detail"]
    running.unlink()
    server.wait_for(r"ready again")
    assert server.post("/echo", json={"text": "again"}).status_code == 200
    assert not running.exists()  # nobody asked for it a second time


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(echo_servers: StartServer, number: int) -> None:
    server = echo_servers().wait_until_ready()
    left = traces(server)
    assert len(left) > 1
    assert len(server.below()) >= 3  # the guard, tritonserver, the stub
    assert server.stop(number) == 0
    assert not [each for each in left if each.exists()]


def test_a_killed_frontend_takes_triton_with_it(echo_servers: StartServer) -> None:
    server = echo_servers().wait_until_ready()
    left = traces(server)
    assert len(left) > 1
    below = server.below()
    server.process.kill()
    assert_gone(below)
    assert not [each for each in left if each.exists()]


def test_a_frontend_killed_while_triton_still_starts_takes_it_with_it(echo_servers: StartServer) -> None:
    server = echo_servers()
    server.wait_for(r"triton: loading: echo")
    below = server.below()
    server.process.kill()
    assert below
    assert_gone(below)


def test_a_killed_guard_takes_triton_with_it_and_a_new_one_starts(echo_servers: StartServer) -> None:
    server = echo_servers().wait_until_ready()
    triton, stub = server.named("tritonserver"), server.named("triton_python_b")
    (guard,) = psutil.Process(server.process.pid).children()
    guard.kill()
    assert_gone({triton, stub})
    server.wait_for(r"ready again")
    assert server.post("/echo", json={"text": "again"}).status_code == 200


def test_a_taken_port_is_one_sentence_and_starts_nothing(echo_server: Server, echo_servers: StartServer) -> None:
    late = echo_servers(port=echo_server.port)
    assert late.process.wait(60) == 2
    late.wait_for(rf"{echo_server.port}.*--port")
    assert "Traceback" not in late.log
