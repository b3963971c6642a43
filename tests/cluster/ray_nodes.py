# SPDX-License-Identifier: Apache-2.0
"""A Ray cluster of a head with the frontend and two nodes with a Triton each, on one machine: `ray_nodes.py --port N`.

The environment's RAY_NODES_OPTIONS is JSON: other options of the application, and `num_cpus` of the two nodes.

SIGUSR1 kills one of the two nodes, with everything that runs on it.
"""

import json
import os
import signal
import socket
import sys
from contextlib import ExitStack
from pathlib import Path
from threading import Event

# Ray reads them when it is imported: the machine may be slow, and its workers are to have their share of it.
os.environ |= {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "RAY_agent_register_timeout_ms": "300000",
    "RAY_SERVE_LOG_TO_STDERR": "0",
}

import ray
from ray import serve
from ray._private.node import Node
from ray._raylet import persist_port
from ray.cluster_utils import Cluster

from fastapi_triton.cluster.application import build
from fastapi_triton.cluster.options import ClusterOptions

# A node waits 30 s for its agents to say their ports, which is too short on a busy machine: here it is told them.
AGENT_PORTS = ("metrics_agent_port", "metrics_export_port", "runtime_env_agent_port", "dashboard_agent_listen_port")
start_raylet = Node.start_raylet


def start_raylet_with_ports(node: Node, *arguments: object, **options: object) -> None:
    for name in AGENT_PORTS:
        persist_port(node.get_session_dir_path(), node.node_id, name, getattr(node._ray_params, name))
    start_raylet(node, *arguments, **options)


def agent_ports() -> dict[str, int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in AGENT_PORTS]
        return {name: each.getsockname()[1] for name, each in zip(AGENT_PORTS, sockets, strict=True)}


def main(port: int) -> None:
    Node.start_raylet = start_raylet_with_ports
    stopped, killed = Event(), Event()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, **agent_ports()})
    options = {"replicas": 2} | json.loads(os.environ.get("RAY_NODES_OPTIONS", "{}"))
    # By default a Triton fills a node, so that each has one, and the frontend is on neither.
    num_cpus = options.pop("num_cpus", 2)
    nodes = [cluster.add_node(num_cpus=num_cpus, **agent_ports()) for _ in range(2)]
    ray.init(address=cluster.address, logging_level="warning")
    signal.signal(signal.SIGTERM, lambda *_: (stopped.set(), killed.set()))
    signal.signal(signal.SIGUSR1, lambda *_: killed.set())
    serve.start(
        proxy_location="HeadOnly",
        http_options={"host": "127.0.0.1", "port": port},
        logging_config={"log_level": "WARNING"},
    )
    serve.run(build(ClusterOptions(folder=str(Path.cwd()), cpus_per_triton=2, **options)))
    print(f"Ready: http://localhost:{port}", flush=True)  # noqa: T201
    killed.wait()
    if not stopped.is_set():
        cluster.remove_node(nodes[0], allow_graceful=False)
        print("one node is gone", flush=True)  # noqa: T201
    stopped.wait()
    serve.shutdown()
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[2]))
