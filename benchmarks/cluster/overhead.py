# SPDX-License-Identifier: Apache-2.0
"""Compare a small request through the cluster with a Serve handle that does nothing.

Both run in the same Ray and get requests in turn through the same proxy. Ours has a real Triton with an echo model.
"""

import os
import statistics
import time
from typing import Annotated

import httpx2
import ray
import typer
from fastapi import FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle

from benchmarks import ROOT
from benchmarks.common.machine import commit, cpu_name
from fastapi_triton.serving.ray_serve.application import build
from fastapi_triton.serving.ray_serve.options import ClusterOptions

APP = ROOT / "tests" / "support" / "apps" / "echo_app"
bare = FastAPI()


class Nothing:
    """The deployment behind the bare handle."""

    async def __call__(self, text: str) -> str:
        return text


@serve.ingress(bare)
class Bare:
    """An ingress that calls the handle and does nothing else."""

    def __init__(self, nothing: DeploymentHandle) -> None:
        self._nothing = nothing

    @bare.post("/")
    async def echo(self, body: dict[str, str]) -> dict[str, str]:
        return {"text": await self._nothing.remote(body["text"])}


def main(
    rounds: Annotated[int, typer.Option(help="Requests of each kind.")] = 500,
    port: int = 8099,
) -> None:
    """Measure, and print a table."""
    ray.init(num_cpus=8, include_dashboard=False, logging_level="warning")
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port}, logging_config={"log_level": "WARNING"})
        serve.run(build(ClusterOptions(folder=str(APP), address="127.0.0.1")), name="ours", route_prefix="/")
        nothing = serve.deployment(Nothing).bind()
        serve.run(serve.deployment(Bare).bind(nothing), name="bare", route_prefix="/bare")
        typer.echo(f"{cpu_name()}, {os.cpu_count()} cores; commit {commit()}; {rounds} requests of each, one at a time")
        typer.echo(table(measure(f"http://127.0.0.1:{port}", rounds)))
    finally:
        serve.shutdown()
        ray.shutdown()


def measure(url: str, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each request of both kinds, after a warm-up of a tenth."""
    paths = {"bare": "/bare/", "ours": "/echo"}
    took: dict[str, list[float]] = {kind: [] for kind in paths}
    with httpx2.Client(base_url=url, timeout=60) as http:
        for _ in range(rounds + rounds // 10):
            for kind, path in paths.items():
                started = time.perf_counter()
                http.post(path, json={"text": "a"}).raise_for_status()
                took[kind].append(1000 * (time.perf_counter() - started))
    return {kind: values[rounds // 10 :] for kind, values in took.items()}


def table(took: dict[str, list[float]]) -> str:
    """A Markdown table: percentiles of both, and the difference."""
    lines = ["| | p50 ms | p95 ms | p99 ms |", "| --- | ---: | ---: | ---: |"]
    percentiles = {
        kind: [statistics.quantiles(values, n=100)[at] for at in (49, 94, 98)] for kind, values in took.items()
    }
    percentiles["added"] = [
        ours - theirs for ours, theirs in zip(percentiles["ours"], percentiles["bare"], strict=True)
    ]
    lines += [
        f"| {kind} | " + " | ".join(f"{value:.1f}" for value in values) + " |" for kind, values in percentiles.items()
    ]
    return "\n".join(lines)
