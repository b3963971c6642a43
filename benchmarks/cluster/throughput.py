# SPDX-License-Identifier: Apache-2.0
"""What 1, 4 and 16 replicas carry at the same p99. A replica is a stand-in that only waits, so that a small machine
is not what limits; Ray, the frontend and the leases are the real ones."""

import asyncio
import itertools
import os
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import orjson
import psutil
import ray
import typer
from ray import serve

from benchmarks.cluster import arrivals
from benchmarks.cluster.stand_in import PLACES, SERVICE_S, StandInReplica
from benchmarks.machine import commit, cpu_name
from benchmarks.ratio import Ratio
from fastapi_triton.cluster import frontend, replica
from fastapi_triton.cluster.options import ClusterOptions

APP = Path(__file__).parent.parent.parent / "tests" / "integration" / "echo_app"


@dataclass(frozen=True, slots=True)
class Point:
    """One load on so many replicas, and what came of it. `load` is the share of what they can do at all."""

    replicas: int
    load: float
    round: int
    rate: float
    asked: int
    served: int
    p50_s: float
    p99_s: float
    machine: float  # how busy all cores were, of 1


def main(
    replicas: Annotated[list[int], typer.Option(help="How many; several times.")] = [1, 4, 16],  # noqa: B006
    load: Annotated[list[float], typer.Option(help="Of what they can do at all; several times.")] = [  # noqa: B006
        0.6,
        0.7,
        0.8,
        0.9,
    ],
    rounds: Annotated[int, typer.Option(help="Of each, with other arrivals.")] = 3,
    seconds: Annotated[float, typer.Option(help="Of arrivals, each time.")] = 40.0,
    service_s: Annotated[float, typer.Option(help="What a request takes.")] = 1.0,
    places: Annotated[int, typer.Option(help="Requests that a replica works on at once; more wait at it.")] = 4,
    room: Annotated[int, typer.Option(help="Requests that a replica is given at most: places, and a queue.")] = 8,
    bound_s: Annotated[float, typer.Option(help="The p99 that all have to keep.")] = 2.0,
    keep: Annotated[Path | None, typer.Option(help="A file to add the points to, so that runs may be parted.")] = None,
    port: int = 8098,
) -> None:
    """Measure and print a table, and how many times the load of one the others carry."""
    os.environ |= {SERVICE_S: str(service_s), PLACES: str(places), "RAY_USAGE_STATS_ENABLED": "0"}
    points = [Point(**each) for each in orjson.loads(keep.read_bytes())] if keep and keep.is_file() else []
    for count in replicas:
        with cluster(count, room, port):
            arrive = f"http://127.0.0.1:{port}/echo"
            asyncio.run(arrivals.poisson(arrive, rate=4 * count, seconds=2, seed=0))  # connections, imports
            for each_round, each_load in itertools.product(range(rounds), load):
                points.append(measure(arrive, count, each_load, each_round, seconds, count * places / service_s))
                typer.echo(row(points[-1]))
        if keep is not None:
            keep.write_bytes(orjson.dumps([asdict(each) for each in points]))
    typer.echo(f"\n{cpu_name()}, {os.cpu_count()} cores; commit {commit()}; {service_s:g} s a request, {places} at once")
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


def measure(url: str, count: int, load: float, number: int, seconds: float, capacity: float) -> Point:
    psutil.cpu_percent()
    answers = asyncio.run(arrivals.poisson(url, rate=load * capacity, seconds=seconds, seed=number))
    return Point(
        replicas=count,
        load=load,
        round=number,
        rate=load * capacity,
        asked=len(answers),
        served=sum(each.status == 200 for each in answers),
        p50_s=arrivals.percentile(answers, 0.5),
        p99_s=arrivals.percentile(answers, 0.99),
        machine=psutil.cpu_percent() / 100,
    )


def row(point: Point) -> str:
    return (
        f"| {point.replicas} | {point.load:.2f} | {point.rate:.1f} | {point.served} of {point.asked} "
        f"| {point.p50_s:.2f} | {point.p99_s:.2f} | {point.machine:.0%} |"
    )


def table(points: Sequence[Point], bound_s: float) -> Iterator[str]:
    """What each number of replicas carries, as requests a second and as a multiple of what one does."""
    yield f"| replicas | requests/s with p99 of {bound_s:g} s | of what they can do | times one replica |"
    yield "| ---: | ---: | ---: | ---: |"
    counts = sorted({each.replicas for each in points})
    carried = {count: rates(points, count, bound_s) for count in counts}
    for count in counts:
        full = next(each.rate / each.load for each in points if each.replicas == count)
        share = Ratio.of([each / full for each in carried[count]])
        one = statistics.median(carried[counts[0]])
        yield f"| {count} | {Ratio.of(carried[count])} | {share} | {Ratio.of([each / one for each in carried[count]])} |"


def rates(points: Sequence[Point], count: int, bound_s: float) -> list[float]:
    """In each round, the rate at which p99 crosses the bound: straight between the two loads around it."""
    found = []
    for number in sorted({each.round for each in points}):
        mine = sorted((each for each in points if each.replicas == count and each.round == number), key=lambda p: p.load)
        kept = list(itertools.takewhile(lambda p: p.p99_s <= bound_s and p.served == p.asked, mine))
        if not kept:
            continue
        low, rest = kept[-1], mine[len(kept) :]
        if rest and rest[0].p99_s > bound_s:
            high = rest[0]
            part = (bound_s - low.p99_s) / (high.p99_s - low.p99_s)
            found.append(low.rate + part * (high.rate - low.rate))
        else:
            found.append(low.rate)
    return found
