# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.framework_internals`: measures, prints the page and writes it into benchmarks/results/."""

import sys
from typing import Annotated

import typer
import uvloop

from benchmarks import RESULTS
from benchmarks.common import machine
from benchmarks.common.measurement_lock import measurement
from benchmarks.framework_internals.page import page
from benchmarks.framework_internals.rounds import CpuTimes, count_instructions, measure
from benchmarks.framework_internals.variants import Variant

app = typer.Typer(add_completion=False)


@app.command()
def main(
    rounds: Annotated[int, typer.Option(help="Measurements of each server with each number of clients.")] = 50,
    seconds: Annotated[float, typer.Option(help="Duration of each measurement.")] = 0.15,
    instructions: Annotated[
        bool,
        typer.Option("--instructions", help="Count instructions with valgrind too, which takes five minutes more."),
    ] = False,
) -> None:
    """Compare our code with the libraries' for the same work. Takes three minutes."""
    times, counts = uvloop.run(_run(rounds, seconds, instructions=instructions))
    text = page(times, counts, num_rounds=rounds)
    sys.stdout.write(text)
    (RESULTS / f"framework-internals-{machine.cpu_slug()}.md").write_text(text)


async def _run(rounds: int, seconds: float, *, instructions: bool) -> tuple[CpuTimes, dict[Variant, float]]:
    return await measure(num_rounds=rounds, seconds=seconds), await count_instructions() if instructions else {}


if __name__ == "__main__":
    with measurement():
        app()
