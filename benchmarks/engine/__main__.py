# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.engine`: measures, and writes tables, data and a picture into benchmarks/results/."""

import logging
import signal
import sys
from typing import Annotated

import typer

import benchmarks.engine.stock_openmp  # noqa: F401
from benchmarks.engine.options import Options
from benchmarks.engine.stock_pipeline import Weights

app = typer.Typer(add_completion=False)
DEFAULT = Options()


@app.command()
def main(
    quick: Annotated[bool, typer.Option("--quick", help="One repeat of few jobs: some minutes, and rough.")] = False,
    repeats: Annotated[int, typer.Option(help="How often every peer gets every workload.")] = DEFAULT.repeats,
    minutes: Annotated[float, typer.Option(help="Begin no repeat that would end later than this; 0: make all.")] = 0.0,
    saturated_jobs: Annotated[int, typer.Option(help="How many come at once.")] = DEFAULT.saturated_jobs,
    loaded_jobs: Annotated[int, typer.Option(help="How many come one by one.")] = DEFAULT.loaded_jobs,
    peers: Annotated[
        str, typer.Option(help="Which, by letter and commas; see benchmarks/engine/peer_selection.py.")
    ] = "",
    workloads: Annotated[str, typer.Option(help="Only workloads whose name contains this.")] = "",
    seed: Annotated[int, typer.Option(help="Other traces.")] = DEFAULT.seed,
    threads: Annotated[int, typer.Option(help="Of torch in this process; 0: one a core.")] = 0,
    max_rows: Annotated[int, typer.Option(help="Of an engine's pass; 0: measured, as the engine does itself.")] = 0,
    checkpoint: str = DEFAULT.weights.checkpoint,
    controlnet: str = "",
    vae: str = "",
    device: str = "auto",
    dtype: str = "auto",
    profile_only: Annotated[bool, typer.Option("--profile-only", help="Only t(rows), of larger networks.")] = False,
    scale: Annotated[int, typer.Option(help="With --profile-only: times the channels of the checkpoint.")] = 5,
    latent_side: Annotated[int, typer.Option(help="With --profile-only: width and height of the latents.")] = 64,
    name: Annotated[str, typer.Option(help="Of the files that are written; empty: of the machine.")] = "",
) -> None:
    """Hold the engine against stock diffusers."""
    from benchmarks.engine.benchmark_run import profile_larger, run

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server it started is stopped with it
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    options = Options(
        weights=Weights(checkpoint=checkpoint, controlnet=controlnet, vae=vae, device=device, dtype=dtype),
        repeats=1 if quick else repeats,
        minutes=minutes,
        saturated_jobs=min(16, saturated_jobs) if quick else saturated_jobs,
        loaded_jobs=min(12, loaded_jobs) if quick else loaded_jobs,
        letters=peers,
        workloads=workloads,
        seed=seed,
        threads=threads,
        max_rows=max_rows,
        name=name,
        command=" ".join(["python -m benchmarks.engine", *sys.argv[1:]]),
    )
    if profile_only:
        profile_larger(options, scale=scale, latent_side=latent_side)
    else:
        run(options)


if __name__ == "__main__":
    app()
