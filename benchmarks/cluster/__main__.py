# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.cluster throughput | faults`."""

import typer

from benchmarks.cluster import faults, throughput

app = typer.Typer(no_args_is_help=True, add_completion=False)
app.command("throughput")(throughput.main)
app.command("faults")(faults.main)


@app.callback()
def about() -> None:
    """A cluster on this machine, with stand-ins for Tritons."""


if __name__ == "__main__":
    app()
