# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.overload`: measure and print. README.md lists the requirements."""

import sys
from typing import Annotated

import typer
import uvloop

from benchmarks.common import machine
from benchmarks.common.measurement_lock import measurement
from benchmarks.overload import client_disconnects, embedded_frontend, offered_load

app = typer.Typer(add_completion=False)

MAX_IN_FLIGHT, MAX_WAITING = 16, 64


@app.command()
def overload(
    seconds: Annotated[float, typer.Option(help="Duration of the overload.")] = 300.0,
    capacity_seconds: Annotated[float, typer.Option(help="Duration of the measurement of the capacity.")] = 20.0,
    times: Annotated[float, typer.Option(help="Offered load, as a multiple of the capacity.")] = 5.0,
    work_s: Annotated[
        float, typer.Option(help="Duration of a request at the model, which works on eight at once.")
    ] = 0.1,
    deadline_s: Annotated[float, typer.Option(help="`X-Request-Timeout` of every request.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Seed of the arrivals.")] = 0,
) -> None:
    """Offer several times the load that the model can serve."""

    async def measure() -> list[str]:
        async with embedded_frontend.running(max_in_flight=MAX_IN_FLIGHT, max_waiting=MAX_WAITING) as running:
            request = offered_load.request("/wait", {"seconds": work_s}, timeout_s=deadline_s)
            capacity = await offered_load.capacity(
                running, request, num_clients=MAX_IN_FLIGHT, seconds=capacity_seconds
            )
            load = await offered_load.offer(
                running, request, capacity=capacity, times=times, seconds=seconds, deadline_s=deadline_s, seed=seed
            )
            return offered_load.table(load)

    _print(uvloop.run(measure()))


@app.command()
def leave(
    requests: Annotated[int, typer.Option(help="Number of clients that disconnect.")] = 4000,
    at_once: Annotated[int, typer.Option(help="Number of concurrent clients.")] = 64,
    seed: Annotated[int, typer.Option(help="Seed of the times at which clients disconnect.")] = 0,
) -> None:
    """Disconnect clients while a stream model runs their requests."""

    async def measure() -> list[str]:
        async with embedded_frontend.running(max_in_flight=at_once, max_waiting=at_once) as running:
            return client_disconnects.table(
                await client_disconnects.measure(running, num_requests=requests, num_at_once=at_once, seed=seed)
            )

    _print(uvloop.run(measure()))


def _print(lines: list[str]) -> None:
    sys.stdout.write("\n".join([f"{machine.cpu_name()}, commit {machine.commit()}", *lines]) + "\n")


if __name__ == "__main__":
    with measurement():
        app()
