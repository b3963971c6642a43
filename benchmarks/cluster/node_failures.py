# SPDX-License-Identifier: Apache-2.0
"""Kill nodes one after the other under load, and count the responses and the jobs' final states.

All nodes of the Ray cluster are on this machine. The head runs the frontend, and each other node a stand-in for Triton.
All processes of a node are killed at once, and another node replaces it.
"""

import asyncio
import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import aiohttp
import httpx2
import ray
import typer
from ray import serve
from ray.cluster_utils import Cluster

from benchmarks.cluster import poisson_clients, ray_nodes
from benchmarks.cluster.poisson_clients import Response
from benchmarks.cluster.throughput import APP
from benchmarks.cluster.triton_stand_in import FOLDER, NUM_AT_ONCE, SERVICE_S, StandInReplica
from benchmarks.common.machine import commit, cpu_name
from fastapi_triton.serving.ray_serve import frontend, replica
from fastapi_triton.serving.ray_serve.options import ClusterOptions

JOBS_PATIENCE_S = 120.0


@dataclass(slots=True)
class Death:
    """A killed node: the time, the requests in flight at its Triton just before, and the time until its replacement."""

    at: float = 0.0
    in_flight: int = 0
    replaced_after_s: float = 0.0


@dataclass(slots=True)
class Run:
    """Responses, killed nodes and jobs of a run."""

    responses: Sequence[Response] = ()
    deaths: list[Death] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)
    jobs: list[dict[str, Any]] = field(default_factory=list)
    rejected_jobs: list[int] = field(default_factory=list)

    @property
    def failed(self) -> list[Response]:
        return [each for each in self.responses if each.status != 200]

    def failed_of(self, death: Death) -> list[Response]:
        """Failed requests that were in flight, on any node, when this node died."""
        return [each for each in self.failed if each.sent_at <= death.at <= each.sent_at + each.latency_s]

    @property
    def unexplained(self) -> list[Response]:
        """Failed requests during which no node died."""
        explained = [each for death in self.deaths for each in self.failed_of(death)]
        return [each for each in self.failed if each not in explained]


def main(
    seconds: Annotated[float, typer.Option(help="Duration of the arrivals.")] = 300.0,
    every_s: Annotated[float, typer.Option(help="Seconds between killed nodes.")] = 30.0,
    num_nodes: Annotated[int, typer.Option("--nodes", help="Nodes with a Triton each.")] = 4,
    load: Annotated[float, typer.Option(help="Share of the capacity of all nodes.")] = 0.6,
    service_s: Annotated[float, typer.Option(help="Duration of a request.")] = 1.0,
    num_at_once: Annotated[int, typer.Option("--places", help="Requests that a Triton works on at once.")] = 4,
    jobs_per_s: Annotated[float, typer.Option(help="Background jobs per second, in addition.")] = 0.5,
    port: int = 8097,
) -> None:
    """Measure and print. Exits with 1 if more requests or jobs failed than docs/scaling.md promises."""
    with TemporaryDirectory() as folder:
        os.environ |= {SERVICE_S: str(service_s), NUM_AT_ONCE: str(num_at_once), FOLDER: folder}
        with cluster(num_nodes, 2 * num_at_once, port, Path(folder) / "jobs") as ray_cluster:
            rate = load * num_nodes * num_at_once / service_s
            run = Run()
            load_run = run_load(f"http://127.0.0.1:{port}", rate, jobs_per_s, seconds, run)
            finished = threading.Event()
            with ThreadPoolExecutor() as pool:
                clients = pool.submit(asyncio.run, load_run)
                clients.add_done_callback(lambda _: finished.set())
                kill_until(finished, ray_cluster, every_s, Path(folder), run.deaths)
                clients.result()
    typer.echo(
        f"{cpu_name()}, {os.cpu_count()} cores; commit {commit()}; {num_nodes} nodes, {service_s:g} s a request,"
    )
    typer.echo(f"{num_at_once} at once, {rate:.1f} requests/s, {seconds:g} s\n")
    typer.echo("\n".join(report(run)))
    raise typer.Exit(0 if keeps_promises(run) else 1)


@contextmanager
def cluster(num_nodes: int, max_in_flight: int, port: int, jobs: Path) -> Iterator[Cluster]:
    made = ray_nodes.start(num_cpus=1)
    try:
        for _ in range(num_nodes):
            ray_nodes.add(made, num_cpus=2)
        ray.init(address=made.address, logging_level="warning")
        serve.start(
            proxy_location="HeadOnly",
            http_options={"host": "127.0.0.1", "port": port},
            logging_config={"log_level": "WARNING"},
        )
        options = ClusterOptions(
            folder=str(APP),
            replicas=num_nodes,
            triton_url="http://stand-in",
            cpus_per_triton=2,  # a whole node
            max_in_flight_per_triton=max_in_flight,
            settings={
                "FASTAPI_TRITON_MAX_IN_FLIGHT": str(4 * num_nodes * max_in_flight),
                "FASTAPI_TRITON_ACCESS_LOG": "false",
                "FASTAPI_TRITON_JOBS_FOLDER": str(jobs),
            },
        )
        tritons = replica.deployment(options, lease_limit_s=options.lease_limit_s, owner=StandInReplica)
        serve.run(frontend.deployment(options, tritons), name="faults", route_prefix="/")
        yield made
    finally:
        serve.shutdown()
        ray.shutdown()
        made.shutdown()


async def run_load(url: str, rate: float, jobs_per_s: float, seconds: float, run: Run) -> None:
    """Send requests and submit jobs, and wait for all responses and jobs."""
    async with aiohttp.ClientSession(url) as session:
        submitting = asyncio.create_task(submit_jobs(session, jobs_per_s, run))
        run.responses = await poisson_clients.poisson(f"{url}/echo", rate=rate, seconds=seconds, seed=0)
        submitting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await submitting
        run.jobs = [await outcome(session, each) for each in run.accepted]


def kill_until(
    finished: threading.Event, ray_cluster: Cluster, every_s: float, folder: Path, deaths: list[Death]
) -> None:
    """Kill and replace the oldest node, again and again. It runs in the main thread: Ray starts nodes only there."""
    due = time.monotonic()
    while not finished.wait((due := due + every_s) - time.monotonic()):
        file = oldest(folder)
        (node,) = (each for each in ray_cluster.worker_nodes if each.node_id == file.name)
        death = Death()
        with httpx2.Client(base_url=file.read_text()) as stand_in:
            ray_nodes.kill(ray_cluster, node, just_before=partial(record_in_flight, stand_in, death))
        file.unlink()
        ray_nodes.add(ray_cluster, num_cpus=2)
        death.replaced_after_s = time.monotonic() - death.at
        deaths.append(death)


def record_in_flight(stand_in: httpx2.Client, death: Death) -> None:
    """Record the requests in flight, a few milliseconds before the node is killed."""
    death.in_flight = int(stand_in.get("/in-flight").json())
    death.at = time.monotonic()


def oldest(folder: Path) -> Path:
    """The file of the oldest stand-in."""
    return min((each for each in folder.iterdir() if each.is_file()), key=lambda each: each.stat().st_mtime)


async def submit_jobs(session: aiohttp.ClientSession, rate: float, run: Run) -> None:
    while True:
        async with session.post("/echo", json=poisson_clients.BODY, headers={"Prefer": "respond-async"}) as response:
            job = await response.json()
        if response.status == 202:
            run.accepted.append(job["urls"]["job"])
        else:
            run.rejected_jobs.append(response.status)
        await asyncio.sleep(1 / rate)


async def outcome(session: aiohttp.ClientSession, path: str) -> dict[str, Any]:
    """The final state of a job, or its state after `JOBS_PATIENCE_S`."""
    until = time.monotonic() + JOBS_PATIENCE_S
    while True:
        async with session.get(path) as response:
            job: dict[str, Any] = await response.json()
        if job["status"] not in ("queued", "running") or time.monotonic() > until:
            return job
        await asyncio.sleep(0.5)


def report(run: Run) -> Iterator[str]:
    """A Markdown table of the killed nodes, and totals."""
    yield "| node dies after s | in flight on it | failed | replaced after s |"
    yield "| ---: | ---: | ---: | ---: |"
    began = min(each.sent_at for each in run.responses)
    for death in run.deaths:
        failed = len(run.failed_of(death))
        yield f"| {death.at - began:.0f} | {death.in_flight} | {failed} | {death.replaced_after_s:.1f} |"
    yield ""
    outcomes = ", ".join(f"{what}: {count}" for what, count in poisson_clients.counts(run.responses).items())
    yield f"{len(run.responses)} requests; responses: {outcomes}"
    yield f"failed although no node died while they were in flight: {len(run.unexplained)}"
    p50, p99 = (poisson_clients.percentile(run.responses, share) for share in (0.5, 0.99))
    yield f"p50 {p50:.2f} s, p99 {p99:.2f} s"
    statuses = Counter(each["status"] for each in run.jobs)
    again = sum(each["runs"] > 1 for each in run.jobs)
    yield f"{len(run.jobs)} jobs accepted, {len(run.rejected_jobs)} rejected; {dict(statuses)}; {again} ran again"


def keeps_promises(run: Run) -> bool:
    """Whether the run kept the promises of docs/scaling.md."""
    return (
        all(each.status for each in run.responses)
        and not run.unexplained
        and all(len(run.failed_of(death)) <= death.in_flight for death in run.deaths)
        and all(each["status"] == "completed" for each in run.jobs)
    )
