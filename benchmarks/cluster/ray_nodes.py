# SPDX-License-Identifier: Apache-2.0
"""Start a Ray cluster of several nodes on this machine, add nodes and kill them. Ray listens on every interface."""

import contextlib
import os
import socket
from collections.abc import Callable
from contextlib import ExitStack

import psutil
from ray._private.node import Node
from ray._raylet import persist_port  # type: ignore[attr-defined, unused-ignore]
from ray.cluster_utils import Cluster

# A node waits 30 s for its agents to report their ports, which is too short on a busy machine. So the ports are fixed.
_AGENT_PORTS = ("metrics_agent_port", "metrics_export_port", "runtime_env_agent_port", "dashboard_agent_listen_port")
# The machine may be slow, and Ray's workers need the same priority as other processes.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "RAY_agent_register_timeout_ms": "300000",
    "RAY_SERVE_LOG_TO_STDERR": "0",
}
_start_raylet = Node.start_raylet


def _start_raylet_with_ports(node: Node, *arguments: object, **options: object) -> None:
    for name in _AGENT_PORTS:
        persist_port(node.get_session_dir_path(), node.node_id, name, getattr(node._ray_params, name))
    _start_raylet(node, *arguments, **options)


def _agent_ports() -> dict[str, int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in _AGENT_PORTS]
        return {name: each.getsockname()[1] for name, each in zip(_AGENT_PORTS, sockets, strict=True)}


def start(*, num_cpus: int) -> Cluster:
    """Start a cluster with the head only."""
    os.environ |= _ENVIRONMENT
    Node.start_raylet = _start_raylet_with_ports
    return Cluster(
        initialize_head=True, head_node_args={"num_cpus": num_cpus, "include_dashboard": False, **_agent_ports()}
    )


def add(cluster: Cluster, *, num_cpus: int) -> Node:
    """Add a node."""
    return cluster.add_node(num_cpus=num_cpus, **_agent_ports())


def kill(cluster: Cluster, node: Node, *, just_before: Callable[[], None] = lambda: None) -> None:
    """Kill all processes of a node at once, like a power failure; but the kernel closes its connections."""
    (raylet,) = (psutil.Process(each.process.pid) for each in node.all_processes["raylet"])
    processes = (raylet, *raylet.children(recursive=True))
    just_before()
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    cluster.remove_node(node, allow_graceful=False)
