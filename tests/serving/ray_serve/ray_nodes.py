# SPDX-License-Identifier: Apache-2.0
"""A Ray cluster of a head with the frontend and two nodes with a Triton each, on one machine: `ray_nodes.py --port N`.

The environment variable RAY_NODES_OPTIONS is JSON: options of the application, and `num_cpus` of the two nodes.

SIGUSR1 kills one of the two nodes, with everything that runs on it.
"""

import json
import os
import signal
import sys
from pathlib import Path
from threading import Event

import ray
from ray import serve

from benchmarks.cluster import ray_nodes
from fastapi_triton.serving.ray_serve import local
from fastapi_triton.serving.ray_serve.application import build
from fastapi_triton.serving.ray_serve.options import ClusterOptions


def main(port: int) -> None:
    stopped, killed = Event(), Event()
    cluster = ray_nodes.start(num_cpus=1)
    options = {"replicas": 2} | json.loads(os.environ.get("RAY_NODES_OPTIONS", "{}"))
    # By default a Triton needs a whole node. So each node has one Triton, and the frontend is on neither.
    num_cpus = options.pop("num_cpus", 2)
    first, _ = (ray_nodes.add(cluster, num_cpus=num_cpus) for _ in range(2))
    ray.init(address=cluster.address, logging_level="warning")
    signal.signal(signal.SIGTERM, lambda *_: (stopped.set(), killed.set()))
    signal.signal(signal.SIGUSR1, lambda *_: killed.set())
    try:
        serve.start(
            proxy_location="HeadOnly",
            http_options={"host": "127.0.0.1", "port": port},
            logging_config={"log_level": "WARNING"},
        )
        serve.run(build(ClusterOptions(folder=str(Path.cwd()), cpus_per_triton=2, **options)))
        print(f"Ready: http://localhost:{port}", flush=True)  # noqa: T201
        killed.wait()
        if not stopped.is_set():
            ray_nodes.kill(cluster, first)
            print("one node is gone", flush=True)  # noqa: T201
        stopped.wait()
    except RuntimeError as error:
        print(local.reason(local.failures(error)), flush=True)  # noqa: T201
    finally:
        serve.shutdown()
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[2]))
