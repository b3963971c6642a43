# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.engine.memory`: the memory that an engine needs, by size and rows in a pass, as a table.

On a CPU: the resident set of a process of its own at its largest, with everything loaded, after some steps of full
passes and the decoding of two pictures. On a GPU: what torch allocated at most. With `--full-size`, what the real SDXL
needs is computed and not measured: no weights are loaded.
"""

import json
import os
import resource
import subprocess
import sys
from typing import Annotated, Any

import typer

from benchmarks import ROOT

app = typer.Typer(add_completion=False)
SIZES = "128x128,192x192,256x256"
ROWS = "2,8,16"
GIB = 1024**3


@app.command()
def main(
    checkpoint: str = "demo_checkpoint",
    controlnet: str = "",
    vae: str = "",
    device: str = "cpu",
    dtype: str = "auto",
    sizes: str = SIZES,
    rows: str = ROWS,
    full_size: Annotated[bool, typer.Option("--full-size", help="Computed for SDXL itself; nothing is run.")] = False,
    one: Annotated[bool, typer.Option("--one", hidden=True)] = False,
) -> None:
    """Print the table."""
    if full_size:
        from benchmarks.engine.full_size_memory import table

        typer.echo("\n".join(table()))
        return
    if one:
        typer.echo(json.dumps(measured(sizes, int(rows), checkpoint, controlnet, vae, device, dtype)))
        return
    counts = [int(count) for count in rows.split(",")]
    typer.echo("| size | loaded | " + " | ".join(f"{count} rows" for count in counts) + " |")
    typer.echo("| --- | ---: |" + " ---: |" * len(counts))
    options = ["--checkpoint", checkpoint, "--controlnet", controlnet, "--vae", vae, "--device", device]
    for size in sizes.split(","):
        found = [in_a_process([*options, "--dtype", dtype, "--sizes", size, "--rows", str(count)]) for count in counts]
        figures = " | ".join(f"{each['peak'] / GIB:.2f}" for each in found)
        typer.echo(f"| {size} | {found[0]['loaded'] / GIB:.2f} | {figures} |")


def in_a_process(options: list[str]) -> dict[str, int]:
    """A peak is of a process's whole life, so each has one of its own."""
    command = [sys.executable, "-m", "benchmarks.engine.memory", "--one", *options]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, env=dict(os.environ))
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


def measured(
    size: str, num_rows: int, checkpoint: str, controlnet: str, vae: str, device: str, dtype: str
) -> dict[str, int]:
    """Bytes: with everything loaded, and at most in what follows."""
    import torch
    from diffusion_engine.engine_builder import build_engine
    from diffusion_engine.request_parser import RowValues, parse_request
    from diffusion_engine.request_state import NullListener

    from benchmarks.engine.job import scribble_file
    from benchmarks.engine.stock_pipeline import Weights

    weights = Weights(checkpoint=checkpoint, controlnet=controlnet, vae=vae, device=device, dtype=dtype)
    engine = build_engine(weights.config(max_rows=str(num_rows)))
    loaded = peak(torch)
    width, height = (int(side) for side in size.split("x"))
    engine.start()
    waiting = []
    for index in range(max(1, num_rows // 2)):
        values: RowValues = {
            "prompt": f"a red house, number {index}".encode(),
            "image": scribble_file(index),
            "width": width,
            "height": height,
            "guidance_scale": 2.5,
            "num_inference_steps": 4,
        }
        waiting.append(Waiting(NullListener()))
        engine.submit(parse_request(values, engine.capabilities), waiting[-1], preview_every=1)
    for each in waiting:
        each.is_done.wait()
    engine.stop()
    return {"loaded": loaded, "peak": peak(torch)}


class Waiting:
    """Knows when it is over."""

    def __init__(self, listener: Any) -> None:
        import threading

        self.is_done = threading.Event()
        self.progress = listener.progress

    def completed(self, picture: object) -> None:
        del picture
        self.is_done.set()

    def failed(self, error: Exception) -> None:
        self.is_done.set()
        raise error


def peak(torch: Any) -> int:
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    app()
