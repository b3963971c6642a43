# SPDX-License-Identifier: Apache-2.0
"""Parts of a cluster are killed under load: only requests in flight there fail, and every request gets a response."""

import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import psutil
import pytest
from callers import callers
from clusters import ClusterServer, ray_nodes, ray_nodes_that_fail

from fastapi_triton.serving.ray_serve.lease_watch import INTERVAL_S
from support.serving import COUNT_APP, ECHO_APP, Server

pytestmark = [pytest.mark.integration, pytest.mark.cluster, pytest.mark.timeout(900)]

NUM_CALLERS = 6
# The only failure that a dying Triton may cause: a request that may have run is not repeated.
LOST = (503, "triton_connection_lost")


def test_a_triton_killed_under_load_fails_only_its_requests_and_is_replaced(
    echo_cluster: ClusterServer,
) -> None:
    first, second = echo_cluster.tritons()
    with callers(echo_cluster.url, NUM_CALLERS) as load:
        load.wait_for_more(30)
        first.kill()
        load.wait_for_more(30)
        echo_cluster.wait_for(r"Triton starts at", times=3, timeout_s=240)
        load.wait_for_more(60)
    assert set(load.failures) <= {LOST}
    assert len(load.failures) <= NUM_CALLERS
    assert second in echo_cluster.tritons()


def test_a_node_killed_under_load_fails_only_its_requests(echo_cluster: ClusterServer) -> None:
    echo_cluster.wait_for(r"Triton at \S+ is ready", times=3, timeout_s=240)  # the third is the replacement
    tritons = echo_cluster.tritons()
    assert len(tritons) == 2
    with callers(echo_cluster.url, NUM_CALLERS) as load:
        load.wait_for_more(30)
        echo_cluster.process.send_signal(signal.SIGUSR1)
        echo_cluster.wait_for("one node is gone")
        load.wait_for_more(60)
    assert set(load.failures) <= {LOST}
    assert len(load.failures) <= NUM_CALLERS
    # Its Triton has ended with the node.
    gone, _ = psutil.wait_procs(tritons, timeout=60)
    assert len(gone) == 1


def test_the_command_serves_on_one_machine_and_leaves_nothing_behind() -> None:
    server = ClusterServer([sys.executable, "-m", "fastapi_triton", "serve", "--cluster", "1"], folder=ECHO_APP)
    try:
        server.wait_until_ready()
        assert server.post("/echo", json={"text": "a"}).json() == {"text": "a"}
    finally:
        assert server.stop(signal.SIGTERM) == 0


def test_the_command_finishes_running_requests_and_rejects_new_ones(tmp_path: Path) -> None:
    server = ClusterServer([sys.executable, "-m", "fastapi_triton", "serve", "--cluster", "1"], folder=COUNT_APP)
    try:
        server.wait_until_ready()
        with ThreadPoolExecutor() as pool:
            running = pool.submit(server.post, "/count", json={"text": f"hold {tmp_path}"})
            wait_until_began(tmp_path, 1)
            server.process.send_signal(signal.SIGTERM)
            server.wait_for("no new requests are accepted; 1 are running")
            assert server.get("/health/ready").json()["status"] == "shutting down"
            refused = server.post("/count", json={"text": "a"})
            assert (refused.status_code, refused.json()["code"]) == (503, "shutting_down")
            (tmp_path / "go").touch()
            assert running.result().status_code == 200
        assert server.process.wait(60) == 0
    finally:
        server.stop(signal.SIGTERM)


def frontends(server: ClusterServer) -> list[psutil.Process]:
    return [each for each in server.below() if each.is_running() and ":Frontend" in each.cmdline()[0]]


def test_a_frontend_killed_under_load_fails_only_its_requests() -> None:
    with ray_nodes(ECHO_APP, num_cpus=3, frontends=2, max_in_flight_per_triton=2) as server:
        first, _ = frontends(server)
        with callers(server.url, NUM_CALLERS) as load:
            load.wait_for_more(30)
            first.kill()
            load.wait_for_more(60)
    assert len(load.failures) <= NUM_CALLERS
    assert {status for status, _ in load.failures} <= {0, 500}  # from Ray's proxy, whose connection broke


def test_the_leases_of_a_killed_frontend_end_long_before_its_requests_would(tmp_path: Path) -> None:
    with ray_nodes(COUNT_APP, max_in_flight_per_triton=2) as server, ThreadPoolExecutor() as pool:
        # These requests use all slots of both Tritons.
        held = [pool.submit(server.post, "/count", json={"text": f"hold {tmp_path}"}) for _ in range(4)]
        wait_until_began(tmp_path, 4)
        (frontend,) = frontends(server)
        time.sleep(3 * INTERVAL_S)  # long enough for some checks, which no event reports
        assert "a frontend has died" not in server.log
        frontend.kill()
        assert [each.result().status_code for each in held] == [500] * 4
        # The models notice it by their connections, the replicas by checking the holders of leases.
        server.wait_for("a frontend has died, so its lease", timeout_s=120)
        # The next frontend has all slots: as many requests run at once.
        again = [pool.submit(ask_until_served, server, f"hold {tmp_path}") for _ in range(4)]
        wait_until_began(tmp_path, 8)
        (tmp_path / "go").touch()
        assert [each.result().status_code for each in again] == [200] * 4


def wait_until_began(folder: Path, count: int) -> None:
    while len(list(folder.glob("began-*"))) < count:
        time.sleep(0.01)


def ask_until_served(server: ClusterServer, text: str) -> httpx2.Response:
    """Retry until Ray has another frontend."""
    while True:
        response = server.post("/count", json={"text": text})
        if response.status_code == 200:
            return response


def test_a_node_with_another_version_is_rejected_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_SERVE_MAX_PER_REPLICA_RETRY_COUNT", "1")
    other = {"replicas": 1, "versions": {"python": "3.9", "package": "0.0.1"}}
    with ray_nodes_that_fail(ECHO_APP, **other) as server:
        server.wait_for(
            r"has other versions: Python is 3\.1\d there, but 3\.9 on the machine that deployed the cluster",
            timeout_s=400,
        )
        server.wait_for(r"fastapi-triton is \S+ there, but 0\.0\.1 on the machine that deployed the cluster")


def test_a_missing_model_repository_fails_before_ray_starts() -> None:
    command = [sys.executable, "-m", "fastapi_triton", "serve", "--cluster", "1", "--models", "nowhere"]
    server = Server(command, folder=ECHO_APP)
    assert server.process.wait(120) == 2
    server.wait_for("There is no model repository at .*nowhere")
    assert server.stop() == 2
