# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.engine.memory`: measure an engine's memory by picture size and rows of a pass.

On a CPU, this is the peak resident memory of a process with everything loaded, after some steps of full passes and the
decoding of two pictures. On a GPU, it is the peak of torch's allocations. `--full-size` computes the memory of the real
SDXL without loading weights.
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
    full_size: Annotated[
        bool, typer.Option("--full-size", help="Compute it for SDXL, without running anything.")
    ] = False,
    one: Annotated[bool, typer.Option("--one", hidden=True)] = False,
) -> None:
    """Print the memory as a Markdown table."""
    if full_size:
        from benchmarks.engine.full_size_memory import table

        typer.echo("\n".join(table()))
        return
    if one:
        typer.echo(json.dumps(measure(sizes, int(rows), checkpoint, controlnet, vae, device, dtype)))
        return
    counts = [int(count) for count in rows.split(",")]
    typer.echo("| size | loaded | " + " | ".join(f"{count} rows" for count in counts) + " |")
    typer.echo("| --- | ---: |" + " ---: |" * len(counts))
    options = ["--checkpoint", checkpoint, "--controlnet", controlnet, "--vae", vae, "--device", device]
    for size in sizes.split(","):
        found = [
            measure_in_process([*options, "--dtype", dtype, "--sizes", size, "--rows", str(count)]) for count in counts
        ]
        figures = " | ".join(f"{each['peak'] / GIB:.2f}" for each in found)
        typer.echo(f"| {size} | {found[0]['loaded'] / GIB:.2f} | {figures} |")


def measure_in_process(options: list[str]) -> dict[str, int]:
    """Measure in a process of its own, because a peak is of a process's whole life."""
    command = [sys.executable, "-m", "benchmarks.engine.memory", "--one", *options]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, env=dict(os.environ))
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(
    size: str, num_rows: int, checkpoint: str, controlnet: str, vae: str, device: str, dtype: str
) -> dict[str, int]:
    """Bytes in use with everything loaded, and the peak afterwards."""
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
    listeners = []
    for index in range(max(1, num_rows // 2)):
        values: RowValues = {
            "prompt": f"a red house, number {index}".encode(),
            "image": scribble_file(index),
            "width": width,
            "height": height,
            "guidance_scale": 2.5,
            "num_inference_steps": 4,
        }
        listeners.append(WaitingListener(NullListener()))
        engine.submit(parse_request(values, engine.capabilities), listeners[-1], preview_every=1)
    for each in listeners:
        each.is_done.wait()
    engine.stop()
    return {"loaded": loaded, "peak": peak(torch)}


class WaitingListener:
    """A listener that waits for the end of a request."""

    def __init__(self, listener: Any) -> None:
        import threading

        self.is_done = threading.Event()
        self.progress = listener.progress

    def moved(self, position: object) -> None: ...

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
