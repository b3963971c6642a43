# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.frontend`: measures, and writes a table, data and a picture into benchmarks/results/."""

import asyncio
import logging
import signal
import sys
from typing import Annotated

import typer
import uvloop

from benchmarks import RESULTS
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
    rounds: Annotated[int, typer.Option(help="How often every peer gets every workload.")] = 6,
    seconds: Annotated[float, typer.Option(help="Of each measurement.")] = 0.6,
    peers: Annotated[str, typer.Option(help="Which, by name and semicolons; see benchmarks/frontend/peers.py.")] = "",
    sizes: Annotated[str, typer.Option(help="Which, by commas.")] = ",".join(SIZES),
    concurrency: Annotated[str, typer.Option(help="How many ask at once, by commas.")] = "1,8,32",
    name: Annotated[str, typer.Option(help="Of the files that are written; empty: of the machine.")] = "",
    before: Annotated[str, typer.Option(help="A commit, for the peers that compare with it.")] = "HEAD",
    add: Annotated[bool, typer.Option("--add", help="Keep the rounds that the files hold, and add more.")] = False,
) -> None:
    """Compare the frontend with other ways to put HTTP in front of a Triton."""
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
    if running is not None:  # so that what is running ends with us, whoever ends us
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    async for samples in measure(plan):
        page.samples += samples
        # So that a run that is broken off was not for nothing.
        logger.info("written: %s", await asyncio.to_thread(page.write))


if __name__ == "__main__":
    app()
