# SPDX-License-Identifier: Apache-2.0
"""What 1, 4 and 16 replicas carry at the same p99. A replica is a stand-in that only waits, so that a small machine
is not what limits; Ray, the frontend and the leases are the real ones."""

import asyncio
import itertools
import os
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import Annotated

import orjson
import psutil
import ray
import typer
from ray import serve

from benchmarks import ROOT
from benchmarks.cluster import poisson_clients
from benchmarks.cluster.triton_stand_in import PLACES, SERVICE_S, StandInReplica
from benchmarks.common.machine import commit, cpu_name
from benchmarks.common.ratio import Ratio
from fastapi_triton.serving.ray_serve import frontend, replica
from fastapi_triton.serving.ray_serve.options import ClusterOptions

APP = ROOT / "tests" / "support" / "apps" / "echo_app"
REPLICAS, LOADS, SEEDS = [1, 4, 16], [0.7, 0.8, 0.9, 0.95], [0, 1, 2, 3]


@dataclass(frozen=True, slots=True)
class Point:
    """One load on so many replicas, and what came of it. `load` is the share of what they can do at all."""

    replicas: int
    load: float
    seed: int
    rate: float
    asked: int
    latencies_s: Sequence[float]  # of those that were served
    machine: float  # how busy all cores were, of 1


def main(
    replicas: Annotated[list[int], typer.Option(help="How many; several times.")] = REPLICAS,
    load: Annotated[list[float], typer.Option(help="Of what they can do at all; several times.")] = LOADS,
    seed: Annotated[list[int], typer.Option(help="Of arrivals, a round each; several times.")] = SEEDS,
    seconds: Annotated[float, typer.Option(help="Of arrivals, each time.")] = 40.0,
    service_s: Annotated[float, typer.Option(help="What a request takes.")] = 1.0,
    places: Annotated[int, typer.Option(help="Requests that a replica works on at once; more wait at it.")] = 4,
    room: Annotated[int, typer.Option(help="Requests that a replica is given at most: places, and a queue.")] = 8,
    bound_s: Annotated[float, typer.Option(help="The p99 that all have to keep.")] = 2.5,
    keep: Annotated[Path | None, typer.Option(help="A file to add the points to, so that runs may be parted.")] = None,
    port: int = 8098,
) -> None:
    """Measure and print a table, and how many times the load of one the others carry."""
    os.environ |= {SERVICE_S: str(service_s), PLACES: str(places), "RAY_USAGE_STATS_ENABLED": "0"}
    points = [Point(**each) for each in orjson.loads(keep.read_bytes())] if keep and keep.is_file() else []
    for count in replicas:
        with cluster(count, room, port):
            arrive = f"http://127.0.0.1:{port}/echo"
            asyncio.run(poisson_clients.poisson(arrive, rate=4 * count, seconds=2, seed=0))  # connections, imports
            for each_seed, each_load in itertools.product(seed, load):
                points.append(measure(arrive, count, each_load, each_seed, seconds, count * places / service_s))
                typer.echo(row(points[-1]))
        if keep is not None:
            keep.write_bytes(orjson.dumps([asdict(each) for each in points]))
    typer.echo(
        f"\n{cpu_name()}, {os.cpu_count()} cores; commit {commit()}; {service_s:g} s a request, {places} at once"
    )
    typer.echo("\n".join(table(points, bound_s)))


@contextmanager
def cluster(count: int, room: int, port: int) -> Iterator[None]:
    ray.init("local", num_cpus=2, include_dashboard=False, logging_level="warning")
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port}, logging_config={"log_level": "WARNING"})
        options = ClusterOptions(
            folder=str(APP),
            replicas=count,
            triton_url="http://stand-in",
            cpus_per_triton=0,
            max_in_flight_per_triton=room,
            settings={"FASTAPI_TRITON_MAX_IN_FLIGHT": str(4 * count * room), "FASTAPI_TRITON_ACCESS_LOG": "false"},
        )
        tritons = replica.deployment(options, lease_limit_s=options.lease_limit_s, owner=StandInReplica)
        serve.run(frontend.deployment(options, tritons), name="throughput", route_prefix="/")
        yield
    finally:
        serve.shutdown()
        ray.shutdown()


def measure(url: str, count: int, load: float, seed: int, seconds: float, capacity: float) -> Point:
    psutil.cpu_percent()
    answers = asyncio.run(poisson_clients.poisson(url, rate=load * capacity, seconds=seconds, seed=seed))
    return Point(
        replicas=count,
        load=load,
        seed=seed,
        rate=load * capacity,
        asked=len(answers),
        latencies_s=[each.latency_s for each in answers if each.status == 200],
        machine=psutil.cpu_percent() / 100,
    )


def row(point: Point) -> str:
    return (
        f"| {point.replicas} | {point.load:.2f} | {point.rate:.1f} | {len(point.latencies_s)} of {point.asked} "
        f"| {percentile(point.latencies_s, 0.5):.2f} | {percentile(point.latencies_s, 0.99):.2f} "
        f"| {point.machine:.0%} |"
    )


def table(points: Sequence[Point], bound_s: float) -> Iterator[str]:
    """What each number of replicas carries, as requests a second and as a multiple of what one does."""
    for count, load in sorted({(each.replicas, each.load) for each in points}):
        yield row(pooled([each for each in points if each.replicas == count and each.load == load]))
    yield ""
    yield f"| replicas | requests/s with p99 of {bound_s:g} s | of what they can do | times one replica |"
    yield "| ---: | ---: | ---: | ---: |"
    counts = sorted({each.replicas for each in points})
    one = carried([each for each in points if each.replicas == counts[0]], bound_s)
    for count in counts:
        mine = [each for each in points if each.replicas == count]
        rates = spread(mine, bound_s)
        full = mine[0].rate / mine[0].load
        times, share = (Ratio(*(each / unit for each in astuple(rates))) for unit in (one, full))
        yield f"| {count} | {rates} | {share} | {times} |"


def spread(points: Sequence[Point], bound_s: float) -> Ratio:
    """What all arrivals together say, and the least and most that they would say without one of the seeds."""
    seeds = {each.seed for each in points}
    without = [carried([each for each in points if each.seed != seed], bound_s) for seed in seeds if len(seeds) > 1]
    told = carried(points, bound_s)
    return Ratio(told, min([told, *without]), max([told, *without]))


def carried(points: Sequence[Point], bound_s: float) -> float:
    """The rate at which p99, over all seeds, crosses the bound: straight between the two loads around it.

    Not more than was tried, and not a number where the least load was too much already.
    """
    by_load = [pooled([each for each in points if each.load == load]) for load in sorted({p.load for p in points})]
    low = None
    for point in by_load:
        p99_s = percentile(point.latencies_s, 0.99)
        if p99_s > bound_s or len(point.latencies_s) < point.asked:
            if low is None:
                return float("nan")
            low_p99_s = percentile(low.latencies_s, 0.99)
            part = (bound_s - low_p99_s) / (p99_s - low_p99_s) if p99_s > bound_s else 0.0
            return low.rate + part * (point.rate - low.rate)
        low = point
    return low.rate if low else float("nan")


def pooled(points: Sequence[Point]) -> Point:
    """One load, over all seeds."""
    return replace(
        points[0],
        asked=sum(each.asked for each in points),
        latencies_s=[latency for each in points for latency in each.latencies_s],
        machine=statistics.mean(each.machine for each in points),
    )


def percentile(latencies_s: Sequence[float], share: float) -> float:
    return sorted(latencies_s)[min(len(latencies_s) - 1, int(share * len(latencies_s)))]
