# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.cluster throughput | faults | overhead`."""

import typer

from benchmarks.cluster import node_failures, overhead, throughput
from benchmarks.common.measurement_lock import measurement

app = typer.Typer(no_args_is_help=True, add_completion=False)
app.command("throughput")(throughput.main)
app.command("faults")(node_failures.main)
app.command("overhead")(overhead.main)


@app.callback()
def about() -> None:
    """Measure a Ray cluster on this machine."""


if __name__ == "__main__":
    with measurement():
        app()
