# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.engine`: measure, and write a page, data and a bar chart into benchmarks/results/."""

import logging
import signal
import sys
from typing import Annotated

import typer

import benchmarks.engine.stock_openmp  # noqa: F401
from benchmarks.common.measurement_lock import measurement
from benchmarks.engine.options import Options
from benchmarks.engine.stock_pipeline import Weights

app = typer.Typer(add_completion=False)
DEFAULT = Options()


@app.command()
def main(
    quick: Annotated[bool, typer.Option("--quick", help="One repeat of few requests: minutes, but rough.")] = False,
    repeats: Annotated[int, typer.Option(help="Measurements of each peer with each workload.")] = DEFAULT.repeats,
    minutes: Annotated[float, typer.Option(help="Start no repeat that would end later; 0: no limit.")] = 0.0,
    saturated_jobs: Annotated[int, typer.Option(help="Requests that arrive all at once.")] = DEFAULT.saturated_jobs,
    loaded_jobs: Annotated[int, typer.Option(help="Requests that arrive at random.")] = DEFAULT.loaded_jobs,
    peers: Annotated[str, typer.Option(help="Letters of peers, separated by commas: see peer_selection.py.")] = "",
    workloads: Annotated[str, typer.Option(help="Run only workloads with this text in their name.")] = "",
    seed: Annotated[int, typer.Option(help="Seed of the traces.")] = DEFAULT.seed,
    threads: Annotated[int, typer.Option(help="Threads of torch in this process; 0: one per core.")] = 0,
    max_rows: Annotated[int, typer.Option(help="Rows of an engine's pass; 0: measured, as by the engine.")] = 0,
    checkpoint: str = DEFAULT.weights.checkpoint,
    controlnet: str = "",
    vae: str = "",
    device: str = "auto",
    dtype: str = "auto",
    profile_only: Annotated[
        bool, typer.Option("--profile-only", help="Measure only the time of a pass of larger networks.")
    ] = False,
    scale: Annotated[int, typer.Option(help="With --profile-only: factor for the checkpoint's channels.")] = 5,
    latent_side: Annotated[int, typer.Option(help="With --profile-only: width and height of the latents.")] = 64,
    name: Annotated[str, typer.Option(help="Name of the written files; default: the machine's.")] = "",
) -> None:
    """Compare the engine with stock diffusers."""
    from benchmarks.engine.benchmark_run import profile_larger, run

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # SIGTERM stops the started servers too
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
    with measurement():
        app()
