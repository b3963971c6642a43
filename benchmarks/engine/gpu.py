# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.engine.gpu`: measure passes and pictures by size, then compare the engine with stock diffusers.

It runs wherever torch does. It was not run on a GPU for this project yet.
"""

import logging
import sys
import time
from collections.abc import Sequence
from typing import Annotated

import torch
import typer
from diffusion_engine.row_limits import knee

import benchmarks.engine.stock_openmp  # noqa: F401
from benchmarks import RESULTS
from benchmarks.engine import torch_device
from benchmarks.engine.benchmark_run import run
from benchmarks.engine.in_process_engine import InProcessEngine
from benchmarks.engine.job import Job
from benchmarks.engine.options import Options
from benchmarks.engine.pass_times import row_times, table
from benchmarks.engine.stock_pipeline import StockPipeline, Weights

logger = logging.getLogger(__name__)
app = typer.Typer(add_completion=False)


@app.command()
def main(
    checkpoint: str = "stabilityai/stable-diffusion-xl-base-1.0",
    controlnet: str = "",
    vae: str = "",
    device: str = "auto",
    dtype: str = "auto",
    sizes: Annotated[str, typer.Option(help="Such as 1024x1024,768x768; default: the checkpoint's first four.")] = "",
    steps: Annotated[int, typer.Option(help="Steps of a picture; 0: the checkpoint's default.")] = 0,
    jobs: Annotated[int, typer.Option(help="Requests in each workload of the comparison; 0: no comparison.")] = 24,
    repeats: int = 5,
    name: Annotated[str, typer.Option(help="Name of the written files; default: the device's.")] = "",
) -> None:
    """Measure, and write a page into benchmarks/results/."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    weights = Weights(checkpoint=checkpoint, controlnet=controlnet, vae=vae, device=device, dtype=dtype)
    command = " ".join(["python -m benchmarks.engine.gpu", *sys.argv[1:]])
    stock = StockPipeline.load(weights)
    where = stock.pipeline.device
    title = name or f"gpu-{torch_device.slug(where)}"
    lines = [
        "# Passes and pictures by size",
        "",
        f"{torch_device.describe(where)}, {stock.pipeline.unet.dtype}. `{command}`",
    ]
    num_steps = steps or stock.capabilities.defaults.num_inference_steps
    for size in chosen_sizes(sizes, stock):
        lines += ["", *of_size(stock.at_size(*size), num_steps)]
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{title}.md").write_text("\n".join(lines) + "\n")
    if jobs:
        # Without "two processes": they would load the weights twice, and would take turns on one GPU.
        run(
            Options(
                weights=weights,
                repeats=repeats,
                saturated_jobs=jobs,
                loaded_jobs=jobs,
                letters="a,b,e",
                name=f"{title}-engine",
                command=command,
            )
        )


def chosen_sizes(text: str, stock: StockPipeline) -> Sequence[tuple[int, int]]:
    if not text:
        return stock.capabilities.sizes[:4]
    return [(int(width), int(height)) for width, height in (size.split("x") for size in text.split(","))]


def of_size(stock: StockPipeline, num_steps: int) -> list[str]:
    """The time of a pass by rows, memory, and the time of a picture alone and with others."""
    size = (stock.capabilities.defaults.width, stock.capabilities.defaults.height)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    times = row_times(stock.networks, stock.capabilities, size)
    max_rows = knee(times)
    live = InProcessEngine("engine", stock, max_rows=max_rows)
    live.warm_up()
    stock.warm_up()
    count = max(2, max_rows // 2)
    alone, together = seconds(live, 1, num_steps), seconds(live, count, num_steps)
    started = time.perf_counter()
    stock.generate([Job(index=0, arrival=0, num_steps=num_steps)])
    plain = time.perf_counter() - started
    live.close()
    lines = [f"## {size[0]}x{size[1]}", "", *table(times), "", f"A picture of {num_steps} guided steps:", ""]
    lines += [
        f"- stock pipeline: {plain:.2f} s",
        f"- engine, alone: {alone:.2f} s",
        f"- engine, {count} at once: {together:.2f} s for all, {together / count:.2f} s a picture",
    ]
    if torch.cuda.is_available():
        lines.append(f"- peak memory: {torch.cuda.max_memory_allocated() / 1e9:.1f} GB")
    return lines


def seconds(live: InProcessEngine, num_jobs: int, num_steps: int) -> float:
    outcomes = live.run([Job(index=index, arrival=0, num_steps=num_steps) for index in range(num_jobs)])
    return max(each.ended for each in outcomes)


if __name__ == "__main__":
    app()
