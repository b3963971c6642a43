# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.frontend`: measure, and write a page, data and a bar chart into benchmarks/results/."""

import asyncio
import logging
import signal
import sys
from typing import Annotated

import typer
import uvloop

from benchmarks import RESULTS
from benchmarks.common.measurement_lock import measurement
from benchmarks.frontend.frontend_page import Page
from benchmarks.frontend.frontend_tables import change_table, target_table
from benchmarks.frontend.payload import SIZES
from benchmarks.frontend.peers import CHANGES, LAYERS, PEERS
from benchmarks.frontend.rounds import Plan, measure
from benchmarks.frontend.sample import Workload

app = typer.Typer(add_completion=False)
logger = logging.getLogger(__name__)


@app.command()
def main(
    rounds: Annotated[int, typer.Option(help="Measurements of each peer with each workload.")] = 6,
    seconds: Annotated[float, typer.Option(help="Duration of each measurement.")] = 0.6,
    peers: Annotated[str, typer.Option(help="Names of peers, separated by semicolons: see peers.py.")] = "",
    sizes: Annotated[str, typer.Option(help="Sizes, separated by commas.")] = ",".join(SIZES),
    concurrency: Annotated[str, typer.Option(help="Numbers of clients, separated by commas.")] = "1,8,32",
    name: Annotated[str, typer.Option(help="Name of the written files; default: the machine's.")] = "",
    before: Annotated[str, typer.Option(help="Commit of the peers called `before`.")] = "HEAD",
    add: Annotated[bool, typer.Option("--add", help="Add the rounds to those in the files.")] = False,
) -> None:
    """Compare the frontend with alternatives in front of Triton."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", stream=sys.stderr)
    logging.getLogger("benchmarks").setLevel(logging.INFO)
    wanted = peers.split(";") if peers else [peer.name for peer in PEERS]
    page = Page.open(RESULTS, name, is_new=not add)
    plan = Plan(
        peers=[peer for peer in (*PEERS, *CHANGES, *LAYERS) if peer.name in wanted],
        workloads=[Workload(size, int(number)) for size in sizes.split(",") for number in concurrency.split(",")],
        num_rounds=rounds,
        seconds=seconds,
        first_round=page.num_rounds,
        before=before,
    )
    uvloop.run(_run(plan, page))
    lines = change_table(page.samples) if any(peer in CHANGES for peer in plan.peers) else target_table(page.samples)
    sys.stdout.write("\n".join(lines) + "\n")


async def _run(plan: Plan, page: Page) -> None:
    running = asyncio.current_task()
    if running is not None:  # SIGTERM stops the servers too
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    async for samples in measure(plan):
        page.samples += samples
        # After each round, so that an interrupted run keeps its results.
        logger.info("written: %s", await asyncio.to_thread(page.write))


if __name__ == "__main__":
    with measurement():
        app()
