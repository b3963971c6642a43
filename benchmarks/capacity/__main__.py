# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.capacity size|check|growth`: replicas for a load; validation of the model; large fleets.

It needs neither Triton nor torch and takes a few seconds.
"""

import sys
from typing import Annotated

import typer

from benchmarks.capacity import large_fleets, replica_table, validation
from benchmarks.capacity.replica import REPLICAS

app = typer.Typer(add_completion=False, no_args_is_help=True)
_ReplicaName = Annotated[str, typer.Option(help=f"One of {', '.join(REPLICAS)}.")]


@app.command()
def size(
    rate: Annotated[float, typer.Option(help="Mean rate, in pictures per second.")] = 2.0,
    peak: Annotated[float, typer.Option(help="Rate in the busiest hour, as a multiple of the mean.")] = 1.0,
    steps: Annotated[str, typer.Option(help="Step counts, separated by commas; each is equally frequent.")] = "30",
    replica: _ReplicaName = "gpu",
    max_waiting: Annotated[int, typer.Option("--wait-places", help="Requests that may wait, for each replica.")] = 8,
    dollars_an_hour: Annotated[float, typer.Option(help="Price of a replica's machine, in dollars per hour.")] = 1.86,
) -> None:
    """Print latency, rejected requests and cost by number of replicas."""
    counts = tuple(int(each) for each in steps.split(","))
    sys.stdout.write(
        replica_table.table(REPLICAS[replica], rate * peak, rate, counts, max_waiting, dollars_an_hour) + "\n"
    )


@app.command()
def check() -> None:
    """Compare the model with the simulation, and the simulation with measurements."""
    sys.stdout.write(validation.against_simulation() + "\n\n" + validation.against_measured() + "\n")


@app.command("growth")
def growth_command(
    dollars_an_hour: Annotated[float, typer.Option(help="Price of a replica's machine, in dollars per hour.")] = 1.86,
) -> None:
    """Print the load on each component for a million and a hundred million pictures a day."""
    sys.stdout.write(large_fleets.table(dollars_an_hour) + "\n")


if __name__ == "__main__":
    app()
