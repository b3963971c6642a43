# SPDX-License-Identifier: Apache-2.0
"""Kill nodes one after the other under load, and count what clients and jobs get.

A Ray cluster of several nodes on this machine. The head has the frontend, every other node a Triton's stand-in. A node
dies with all of its processes at once, and another comes in its place.
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
from benchmarks.cluster.poisson_clients import Answer
from benchmarks.cluster.throughput import APP
from benchmarks.cluster.triton_stand_in import FOLDER, PLACES, SERVICE_S, StandInReplica
from benchmarks.common.machine import commit, cpu_name
from fastapi_triton.serving.ray_serve import frontend, replica
from fastapi_triton.serving.ray_serve.options import ClusterOptions

JOBS_PATIENCE_S = 120.0


@dataclass(slots=True)
class Death:
    """A node's end. What was in flight at its Triton a moment before; when another node was there."""

    at: float = 0.0
    in_flight: int = 0
    back_after_s: float = 0.0


@dataclass(slots=True)
class Seen:
    """All that happened."""

    answers: Sequence[Answer] = ()
    deaths: list[Death] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)
    jobs: list[dict[str, Any]] = field(default_factory=list)
    refused_jobs: list[int] = field(default_factory=list)

    @property
    def failed(self) -> list[Answer]:
        return [each for each in self.answers if each.status != 200]

    def failed_of(self, death: Death) -> list[Answer]:
        """Those that were in flight somewhere when it died."""
        return [each for each in self.failed if each.asked_at <= death.at <= each.asked_at + each.latency_s]

    @property
    def unexplained(self) -> list[Answer]:
        """Those that failed although nothing died while they were in flight."""
        explained = [each for death in self.deaths for each in self.failed_of(death)]
        return [each for each in self.failed if each not in explained]


def main(
    seconds: Annotated[float, typer.Option(help="Of arrivals.")] = 300.0,
    every_s: Annotated[float, typer.Option(help="A node dies so often.")] = 30.0,
    num_nodes: Annotated[int, typer.Option("--nodes", help="With a Triton each.")] = 4,
    load: Annotated[float, typer.Option(help="Of what all nodes can do.")] = 0.6,
    service_s: Annotated[float, typer.Option(help="What a request takes.")] = 1.0,
    places: Annotated[int, typer.Option(help="Requests that a Triton works on at once; more wait at it.")] = 4,
    jobs_per_s: Annotated[float, typer.Option(help="Background jobs, besides.")] = 0.5,
    port: int = 8097,
) -> None:
    """Measure, and print what callers and jobs saw. Exit code 1: more than is promised."""
    with TemporaryDirectory() as folder:
        os.environ |= {SERVICE_S: str(service_s), PLACES: str(places), FOLDER: folder}
        with cluster(num_nodes, 2 * places, port, Path(folder) / "jobs") as ray_cluster:
            rate = load * num_nodes * places / service_s
            seen = Seen()
            watching = watch(f"http://127.0.0.1:{port}", rate, jobs_per_s, seconds, seen)
            over = threading.Event()
            with ThreadPoolExecutor() as pool:
                callers = pool.submit(asyncio.run, watching)
                callers.add_done_callback(lambda _: over.set())
                kill_until(over, ray_cluster, every_s, Path(folder), seen.deaths)
                callers.result()
    typer.echo(
        f"{cpu_name()}, {os.cpu_count()} cores; commit {commit()}; {num_nodes} nodes, {service_s:g} s a request,"
    )
    typer.echo(f"{places} at once, {rate:.1f} requests/s, {seconds:g} s\n")
    typer.echo("\n".join(report(seen)))
    raise typer.Exit(0 if is_kept(seen) else 1)


@contextmanager
def cluster(num_nodes: int, room: int, port: int, jobs: Path) -> Iterator[Cluster]:
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
            max_in_flight_per_triton=room,
            settings={
                "FASTAPI_TRITON_MAX_IN_FLIGHT": str(4 * num_nodes * room),
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


async def watch(url: str, rate: float, jobs_per_s: float, seconds: float, seen: Seen) -> None:
    """Let callers come and jobs be submitted, until all are answered and all jobs are over."""
    async with aiohttp.ClientSession(url) as session:
        submitting = asyncio.create_task(submit_for_ever(session, jobs_per_s, seen))
        seen.answers = await poisson_clients.poisson(f"{url}/echo", rate=rate, seconds=seconds, seed=0)
        submitting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await submitting
        seen.jobs = [await outcome(session, each) for each in seen.accepted]


def kill_until(over: threading.Event, ray_cluster: Cluster, every_s: float, folder: Path, deaths: list[Death]) -> None:
    """The node that has been there for longest goes, another comes. Ray has nodes begin in the main thread only."""
    due = time.monotonic()
    while not over.wait((due := due + every_s) - time.monotonic()):
        file = oldest(folder)
        (node,) = (each for each in ray_cluster.worker_nodes if each.node_id == file.name)
        death = Death()
        with httpx2.Client(base_url=file.read_text()) as stand_in:
            ray_nodes.kill(ray_cluster, node, just_before=partial(look, stand_in, death))
        file.unlink()
        ray_nodes.add(ray_cluster, num_cpus=2)
        death.back_after_s = time.monotonic() - death.at
        deaths.append(death)


def look(stand_in: httpx2.Client, death: Death) -> None:
    """Note what is in flight, a few milliseconds before it dies."""
    death.in_flight = int(stand_in.get("/in-flight").json())
    death.at = time.monotonic()


def oldest(folder: Path) -> Path:
    """What the stand-in that has been there for longest has written."""
    return min((each for each in folder.iterdir() if each.is_file()), key=lambda each: each.stat().st_mtime)


async def submit_for_ever(session: aiohttp.ClientSession, rate: float, seen: Seen) -> None:
    while True:
        async with session.post("/echo", json=poisson_clients.BODY, headers={"Prefer": "respond-async"}) as answer:
            told = await answer.json()
        if answer.status == 202:
            seen.accepted.append(told["urls"]["job"])
        else:
            seen.refused_jobs.append(answer.status)
        await asyncio.sleep(1 / rate)


async def outcome(session: aiohttp.ClientSession, job: str) -> dict[str, Any]:
    """What became of a job, when it is over or nobody would wait any longer."""
    until = time.monotonic() + JOBS_PATIENCE_S
    while True:
        async with session.get(job) as answer:
            told: dict[str, Any] = await answer.json()
        if told["status"] not in ("queued", "running") or time.monotonic() > until:
            return told
        await asyncio.sleep(0.5)


def report(seen: Seen) -> Iterator[str]:
    """Tables of the deaths and of everything."""
    yield "| a node dies after s | in flight on it | failed | another node is there after s |"
    yield "| ---: | ---: | ---: | ---: |"
    began = min(each.asked_at for each in seen.answers)
    for death in seen.deaths:
        failed = len(seen.failed_of(death))
        yield f"| {death.at - began:.0f} | {death.in_flight} | {failed} | {death.back_after_s:.1f} |"
    yield ""
    told = ", ".join(f"{what}: {count}" for what, count in poisson_clients.counts(seen.answers).items())
    yield f"{len(seen.answers)} requests asked; answers: {told}"
    yield f"failed, though nothing died while they were in flight: {len(seen.unexplained)}"
    p50, p99 = (poisson_clients.percentile(seen.answers, share) for share in (0.5, 0.99))
    yield f"p50 {p50:.2f} s, p99 {p99:.2f} s"
    statuses = Counter(each["status"] for each in seen.jobs)
    again = sum(each["runs"] > 1 for each in seen.jobs)
    yield f"{len(seen.jobs)} jobs accepted, {len(seen.refused_jobs)} refused; {dict(statuses)}; {again} ran again"


def is_kept(seen: Seen) -> bool:
    """Whether what is promised was kept."""
    return (
        all(each.status for each in seen.answers)
        and not seen.unexplained
        and all(len(seen.failed_of(death)) <= death.in_flight for death in seen.deaths)
        and all(each["status"] == "completed" for each in seen.jobs)
    )
