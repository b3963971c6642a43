# SPDX-License-Identifier: Apache-2.0
"""A Ray cluster of a head with the frontend and two nodes with a Triton each, on one machine: `two_nodes.py --port N`.

SIGUSR1 kills one of the two nodes, with everything that runs on it.
"""

import os
import signal
import sys
from pathlib import Path
from threading import Event

import ray
from ray import serve
from ray.cluster_utils import Cluster

from fastapi_triton.cluster.application import build
from fastapi_triton.cluster.options import ClusterOptions


def main(port: int) -> None:
    stopped, killed = Event(), Event()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=2) for _ in range(2)]
    ray.init(address=cluster.address, logging_level="warning")
    signal.signal(signal.SIGTERM, lambda *_: (stopped.set(), killed.set()))
    signal.signal(signal.SIGUSR1, lambda *_: killed.set())
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
    # A Triton fills a node, so that each has one, and the frontend is on neither.
    serve.run(build(ClusterOptions(folder=str(Path.cwd()), replicas=2, cpus_per_triton=2)))
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
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    main(int(sys.argv[2]))
