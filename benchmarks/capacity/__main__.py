# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.capacity size|check|growth`: replicas for a load; the model's validation; large fleets.

Needs no Triton, no torch and a few seconds.
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
    rate: Annotated[float, typer.Option(help="Pictures a second, on average.")] = 2.0,
    peak: Annotated[float, typer.Option(help="How much more the busiest hour asks for.")] = 1.0,
    steps: Annotated[str, typer.Option(help="Step counts, each equally often.")] = "30",
    replica: _ReplicaName = "gpu",
    wait_places: Annotated[int, typer.Option(help="Who may wait, for each replica, beside those who run.")] = 8,
    dollars_an_hour: Annotated[float, typer.Option(help="What a replica's machine costs.")] = 1.86,
) -> None:
    """A table over numbers of replicas: latency, refusals, cost."""
    counts = tuple(int(each) for each in steps.split(","))
    sys.stdout.write(
        replica_table.table(REPLICAS[replica], rate * peak, rate, counts, wait_places, dollars_an_hour) + "\n"
    )


@app.command()
def check() -> None:
    """The model against the simulation, and the simulation against what was measured."""
    sys.stdout.write(validation.against_simulation() + "\n\n" + validation.against_measured() + "\n")


@app.command("growth")
def growth_command(
    dollars_an_hour: Annotated[float, typer.Option(help="What a replica's machine costs.")] = 1.86,
) -> None:
    """A million pictures a day, and a hundred million: what each part would have to bear."""
    sys.stdout.write(large_fleets.table(dollars_an_hour) + "\n")


if __name__ == "__main__":
    app()
