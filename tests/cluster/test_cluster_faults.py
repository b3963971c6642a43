# SPDX-License-Identifier: Apache-2.0
"""Parts of a cluster are killed under load: at most the requests in flight on them fail, and nobody goes unanswered."""

import signal
import sys

import psutil
import pytest

pytest.importorskip("ray", reason="the extra `cluster` is not installed")

from callers import callers
from clusters import ClusterServer
from serving import ECHO_APP, Server

pytestmark = [pytest.mark.integration, pytest.mark.cluster, pytest.mark.timeout(900)]

NUM_CALLERS = 6
# The one failure that a dying Triton may show: what may have run is not repeated.
LOST = (503, "triton_connection_lost")


def test_a_triton_killed_under_load_takes_only_its_requests_with_it_and_is_replaced(
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


def test_a_node_killed_under_load_takes_only_its_requests_with_it(echo_cluster: ClusterServer) -> None:
    echo_cluster.wait_for(r"Triton at \S+ is ready", times=3, timeout_s=240)  # the one that was started anew
    tritons = echo_cluster.tritons()
    assert len(tritons) == 2
    with callers(echo_cluster.url, NUM_CALLERS) as load:
        load.wait_for_more(30)
        echo_cluster.process.send_signal(signal.SIGUSR1)
        echo_cluster.wait_for("one node is gone")
        load.wait_for_more(60)
    assert set(load.failures) <= {LOST}
    assert len(load.failures) <= NUM_CALLERS
    # Its Triton has gone with the node: nothing works on for nobody.
    gone, _ = psutil.wait_procs(tritons, timeout=60)
    assert len(gone) == 1


def test_the_command_serves_on_one_machine_and_leaves_nothing_behind() -> None:
    server = ClusterServer([sys.executable, "-m", "fastapi_triton", "serve", "--cluster", "1"], folder=ECHO_APP)
    try:
        server.wait_until_ready()
        assert server.post("/echo", json={"text": "a"}).json() == {"text": "a"}
    finally:
        assert server.stop(signal.SIGTERM) == 0


def test_a_missing_model_repository_is_told_before_ray_starts() -> None:
    command = [sys.executable, "-m", "fastapi_triton", "serve", "--cluster", "1", "--models", "nowhere"]
    server = Server(command, folder=ECHO_APP)
    assert server.process.wait(120) == 2
    server.wait_for("There is no model repository at .*nowhere")
    assert server.stop() == 2
