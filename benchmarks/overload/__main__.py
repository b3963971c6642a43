# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.overload`: measure and print. README.md lists the requirements."""

import sys
from typing import Annotated

import typer
import uvloop

from benchmarks.common import machine
from benchmarks.overload import client_disconnects, embedded_frontend, offered_load

app = typer.Typer(add_completion=False)

MAX_IN_FLIGHT, MAX_WAITING = 16, 64


@app.command()
def overload(
    seconds: Annotated[float, typer.Option(help="How long it is offered too much.")] = 300.0,
    capacity_seconds: Annotated[float, typer.Option(help="How long its capacity is measured.")] = 20.0,
    times: Annotated[float, typer.Option(help="How many times its capacity it is offered.")] = 5.0,
    work_s: Annotated[float, typer.Option(help="How long one request takes; the model does eight at once.")] = 0.1,
    deadline_s: Annotated[float, typer.Option(help="X-Request-Timeout of every request.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of the arrivals.")] = 0,
) -> None:
    """Offer a model that only waits several times what it can do."""

    async def measure() -> list[str]:
        async with embedded_frontend.running(max_in_flight=MAX_IN_FLIGHT, max_waiting=MAX_WAITING) as running:
            asked = offered_load.request("/wait", {"seconds": work_s}, timeout_s=deadline_s)
            most = await offered_load.capacity(running, asked, num_callers=MAX_IN_FLIGHT, seconds=capacity_seconds)
            load = await offered_load.offer(
                running, asked, capacity=most, times=times, seconds=seconds, deadline_s=deadline_s, seed=seed
            )
            return offered_load.table(load)

    _say(uvloop.run(measure()))


@app.command()
def leave(
    requests: Annotated[int, typer.Option(help="How many callers leave.")] = 4000,
    at_once: Annotated[int, typer.Option(help="How many are there at a time.")] = 64,
    seed: Annotated[int, typer.Option(help="Of when each leaves.")] = 0,
) -> None:
    """Have callers leave while a model with a streaming twin works for them."""

    async def measure() -> list[str]:
        async with embedded_frontend.running(max_in_flight=at_once, max_waiting=at_once) as running:
            return client_disconnects.table(
                await client_disconnects.measure(running, num_requests=requests, num_at_once=at_once, seed=seed)
            )

    _say(uvloop.run(measure()))


def _say(lines: list[str]) -> None:
    sys.stdout.write("\n".join([f"{machine.cpu_name()}, commit {machine.commit()}", *lines]) + "\n")


if __name__ == "__main__":
    app()
