# SPDX-License-Identifier: Apache-2.0
"""Throughput of 1, 4 and 16 replicas at the same p99.

A replica is a stand-in that only waits, so a small machine is not the limit. Ray, the frontend and the leases are real.
"""

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
from benchmarks.cluster.triton_stand_in import NUM_AT_ONCE, SERVICE_S, StandInReplica
from benchmarks.common.machine import commit, cpu_name
from benchmarks.common.ratio import Ratio
from fastapi_triton.serving.ray_serve import frontend, replica
from fastapi_triton.serving.ray_serve.options import ClusterOptions

APP = ROOT / "tests" / "support" / "apps" / "echo_app"
REPLICAS, LOADS, SEEDS = [1, 4, 16], [0.7, 0.8, 0.9, 0.95], [0, 1, 2, 3]


@dataclass(frozen=True, slots=True)
class Point:
    """One load on a number of replicas, and its results. `load` is a share of their capacity."""

    replicas: int
    load: float
    seed: int
    rate: float
    num_sent: int
    latencies_s: Sequence[float]  # of successful requests
    machine: float  # use of all cores, 0 to 1


def main(
    replicas: Annotated[list[int], typer.Option(help="Number of replicas; may be repeated.")] = REPLICAS,
    load: Annotated[list[float], typer.Option(help="Share of their capacity; may be repeated.")] = LOADS,
    seed: Annotated[list[int], typer.Option(help="Seed of the arrivals of a round; may be repeated.")] = SEEDS,
    seconds: Annotated[float, typer.Option(help="Duration of the arrivals of each round.")] = 40.0,
    service_s: Annotated[float, typer.Option(help="Duration of a request.")] = 1.0,
    num_at_once: Annotated[int, typer.Option("--places", help="Requests that a replica works on at once.")] = 4,
    max_in_flight: Annotated[
        int, typer.Option("--room", help="The most requests at a replica, running and queued.")
    ] = 8,
    bound_s: Annotated[float, typer.Option(help="Limit of the p99.")] = 2.5,
    keep: Annotated[Path | None, typer.Option(help="File that collects the points of several runs.")] = None,
    port: int = 8098,
) -> None:
    """Measure, and print the throughput for each number of replicas."""
    os.environ |= {SERVICE_S: str(service_s), NUM_AT_ONCE: str(num_at_once), "RAY_USAGE_STATS_ENABLED": "0"}
    points = [Point(**each) for each in orjson.loads(keep.read_bytes())] if keep and keep.is_file() else []
    for count in replicas:
        with cluster(count, max_in_flight, port):
            url = f"http://127.0.0.1:{port}/echo"
            asyncio.run(poisson_clients.poisson(url, rate=4 * count, seconds=2, seed=0))  # connections, imports
            for each_seed, each_load in itertools.product(seed, load):
                points.append(measure(url, count, each_load, each_seed, seconds, count * num_at_once / service_s))
                typer.echo(row(points[-1]))
        if keep is not None:
            keep.write_bytes(orjson.dumps([asdict(each) for each in points]))
    typer.echo(
        f"\n{cpu_name()}, {os.cpu_count()} cores; commit {commit()}; {service_s:g} s a request, {num_at_once} at once"
    )
    typer.echo("\n".join(table(points, bound_s)))


@contextmanager
def cluster(count: int, max_in_flight: int, port: int) -> Iterator[None]:
    ray.init("local", num_cpus=2, include_dashboard=False, logging_level="warning")
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port}, logging_config={"log_level": "WARNING"})
        options = ClusterOptions(
            folder=str(APP),
            replicas=count,
            triton_url="http://stand-in",
            cpus_per_triton=0,
            max_in_flight_per_triton=max_in_flight,
            settings={
                "FASTAPI_TRITON_MAX_IN_FLIGHT": str(4 * count * max_in_flight),
                "FASTAPI_TRITON_ACCESS_LOG": "false",
            },
        )
        tritons = replica.deployment(options, lease_limit_s=options.lease_limit_s, owner=StandInReplica)
        serve.run(frontend.deployment(options, tritons), name="throughput", route_prefix="/")
        yield
    finally:
        serve.shutdown()
        ray.shutdown()


def measure(url: str, count: int, load: float, seed: int, seconds: float, capacity: float) -> Point:
    psutil.cpu_percent()
    responses = asyncio.run(poisson_clients.poisson(url, rate=load * capacity, seconds=seconds, seed=seed))
    return Point(
        replicas=count,
        load=load,
        seed=seed,
        rate=load * capacity,
        num_sent=len(responses),
        latencies_s=[each.latency_s for each in responses if each.status == 200],
        machine=psutil.cpu_percent() / 100,
    )


def row(point: Point) -> str:
    return (
        f"| {point.replicas} | {point.load:.2f} | {point.rate:.1f} | {len(point.latencies_s)} of {point.num_sent} "
        f"| {percentile(point.latencies_s, 0.5):.2f} | {percentile(point.latencies_s, 0.99):.2f} "
        f"| {point.machine:.0%} |"
    )


def table(points: Sequence[Point], bound_s: float) -> Iterator[str]:
    """Markdown tables: every load, then the throughput for each number of replicas, relative to one."""
    for count, load in sorted({(each.replicas, each.load) for each in points}):
        yield row(pooled([each for each in points if each.replicas == count and each.load == load]))
    yield ""
    yield f"| replicas | requests/s with p99 of {bound_s:g} s | share of capacity | relative to one replica |"
    yield "| ---: | ---: | ---: | ---: |"
    counts = sorted({each.replicas for each in points})
    one = throughput_at([each for each in points if each.replicas == counts[0]], bound_s)
    for count in counts:
        own_points = [each for each in points if each.replicas == count]
        rates = spread(own_points, bound_s)
        full = own_points[0].rate / own_points[0].load
        times, share = (Ratio(*(each / unit for each in astuple(rates))) for unit in (one, full))
        yield f"| {count} | {rates} | {share} | {times} |"


def spread(points: Sequence[Point], bound_s: float) -> Ratio:
    """The throughput over all seeds, with the lowest and the highest that result without one of the seeds."""
    seeds = {each.seed for each in points}
    without = [
        throughput_at([each for each in points if each.seed != seed], bound_s) for seed in seeds if len(seeds) > 1
    ]
    overall = throughput_at(points, bound_s)
    return Ratio(overall, min([overall, *without]), max([overall, *without]))


def throughput_at(points: Sequence[Point], bound_s: float) -> float:
    """The rate at which the p99 over all seeds reaches the bound, interpolated between the two nearest loads.

    It is at most the highest rate that was tried, and NaN if the lowest was too high already.
    """
    by_load = [pooled([each for each in points if each.load == load]) for load in sorted({p.load for p in points})]
    low = None
    for point in by_load:
        p99_s = percentile(point.latencies_s, 0.99)
        if p99_s > bound_s or len(point.latencies_s) < point.num_sent:
            if low is None:
                return float("nan")
            low_p99_s = percentile(low.latencies_s, 0.99)
            part = (bound_s - low_p99_s) / (p99_s - low_p99_s) if p99_s > bound_s else 0.0
            return low.rate + part * (point.rate - low.rate)
        low = point
    return low.rate if low else float("nan")


def pooled(points: Sequence[Point]) -> Point:
    """The points of one load and all seeds, combined."""
    return replace(
        points[0],
        num_sent=sum(each.num_sent for each in points),
        latencies_s=[latency for each in points for latency in each.latencies_s],
        machine=statistics.mean(each.machine for each in points),
    )


def percentile(latencies_s: Sequence[float], share: float) -> float:
    return sorted(latencies_s)[min(len(latencies_s) - 1, int(share * len(latencies_s)))]
