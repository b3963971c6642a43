# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.engine.cached_steps`: what `cache` gains, and how much it changes the pictures.

Quality: the mean absolute difference of all colour values, of 1, from the picture without `cache`, over the demo's
evaluation cases. For comparison, that of a picture without `cache` that has as few steps as the other one has passes.
Speed: pictures per second when all requests arrive at once, relative to the same requests without `cache` in the same
round.
"""

import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer
from diffusion_engine.engine import Engine
from diffusion_engine.row_limits import RowLimits
from PIL import Image

import benchmarks.engine.stock_openmp  # noqa: F401
from benchmarks.common.measurement_lock import measurement
from benchmarks.common.ratio import Ratio
from benchmarks.engine import torch_device
from benchmarks.engine.job import MIXED_STEPS
from benchmarks.engine.reproducible import Waiter, submit
from benchmarks.engine.stock_pipeline import StockPipeline, Weights
from demo.evaluation.case import Case
from demo.evaluation.cases import all_cases

app = typer.Typer(add_completion=False)

Pictures = Sequence[npt.NDArray[np.int16]]
PUBLISHED = 0.8
VALUES = (0.4, PUBLISHED, 1.0)


@dataclass(frozen=True, slots=True)
class Setting:
    """A scheduler and a number of steps."""

    scheduler: str
    num_steps: int


SETTINGS = (
    Setting("euler", 12),
    Setting("euler_ancestral", 12),
    Setting("dpmpp_2m_karras", 12),
    Setting("euler", 24),
    Setting("euler_ancestral", 24),
    Setting("dpmpp_2m_karras", 24),
    Setting("dpmpp_2m_sde", 24),
    Setting("unipc", 24),
)


def draw(engine: Engine, cases: Sequence[Case], setting: Setting, **values: Any) -> tuple[Pictures, int]:
    """The cases' pictures, and the number of passes of the first one."""
    waiters = [submit(engine, case.seed, **of_case(case), **of_setting(setting), **values) for case in cases]
    pictures = [waiter.pixels() for waiter in waiters]
    return pictures, setting.num_steps - waiters[0].picture().info.get("cached_steps", 0)


def of_setting(setting: Setting) -> dict[str, Any]:
    return {"scheduler": setting.scheduler.encode(), "num_inference_steps": setting.num_steps}


def of_case(case: Case) -> dict[str, Any]:
    buffer = io.BytesIO()
    Image.fromarray(case.scribble).save(buffer, "PNG")
    height, width = case.scribble.shape
    return {
        "prompt": case.prompt.encode(),
        "image": buffer.getvalue(),
        "invert": b"no",
        "conditioning_scale": case.scale,
        "width": width,
        "height": height,
    }


def differences(pictures: Pictures, exact: Pictures) -> npt.NDArray[np.float64]:
    """The mean absolute difference of each picture, of 1."""
    return np.array([np.abs(one - other).mean() / 255 for one, other in zip(pictures, exact, strict=True)])


def quality_rows(engine: Engine, cases: Sequence[Case], setting: Setting) -> list[str]:
    exact, _ = draw(engine, cases, setting)
    rows = []
    for cache in VALUES:
        cached, num_passes = draw(engine, cases, setting, cache=cache)
        shorter, _ = draw(engine, cases, Setting(setting.scheduler, num_passes))
        found, other = differences(cached, exact), differences(shorter, exact)
        rows.append(
            f"| `{setting.scheduler}`, {setting.num_steps} steps | {cache:g} | {num_passes} | {found.mean():.4f} | "
            f"{np.percentile(found, 95):.4f} | {other.mean():.4f} |"
        )
    return rows


def seconds(engine: Engine, *, num_pictures: int, step_counts: Sequence[int], cache: float) -> float:
    started = time.perf_counter()
    waiters: list[Waiter] = [
        submit(engine, index, num_inference_steps=step_counts[index % len(step_counts)], cache=cache)
        for index in range(num_pictures)
    ]
    for waiter in waiters:
        waiter.pixels()
    return time.perf_counter() - started


def speed_rows(engine: Engine, *, rounds: int, num_pictures: int) -> list[str]:
    rows = []
    for name, step_counts in (("12 steps", (12,)), ("4, 8, 20 or 50 steps", MIXED_STEPS)):
        took = [
            {
                cache: seconds(engine, num_pictures=num_pictures, step_counts=step_counts, cache=cache)
                for cache in (0.0, *VALUES)
            }
            for _ in range(rounds)
        ]
        rows += [f"| {name} | {cache:g} | {Ratio.of([each[0.0] / each[cache] for each in took])} |" for cache in VALUES]
    return rows


@app.command(help=__doc__)
def main(
    every: Annotated[int, typer.Option(help="Every n-th of the evaluation cases.")] = 1,
    rounds: Annotated[int, typer.Option(help="Rounds of each speed.")] = 5,
    num_pictures: Annotated[int, typer.Option(help="Requests at once for the speed.")] = 32,
    settings: Annotated[int, typer.Option(help="Only the first schedulers and steps.")] = len(SETTINGS),
    max_rows: int = 16,
) -> None:
    stock = StockPipeline.load(Weights())
    engine = Engine(stock.networks, stock.capabilities, RowLimits({}, default=max_rows), max_requests=1000)
    engine.start()
    cases = all_cases()[::every]
    try:
        seconds(engine, num_pictures=num_pictures, step_counts=MIXED_STEPS, cache=0)  # warm-up
        typer.echo(torch_device.describe(stock.pipeline.device))
        typer.echo(f"{num_pictures} requests at once, {rounds} rounds; pictures/s relative to no `cache`")
        typer.echo("\n".join(["| requests | cache | rate |", "| --- | --- | --- |"]))
        typer.echo("\n".join(speed_rows(engine, rounds=rounds, num_pictures=num_pictures)))
        typer.echo(f"{len(cases)} evaluation cases")
        typer.echo("| request | cache | passes | difference | 95th percentile | without `cache`, as many passes |")
        typer.echo("| --- | --- | ---: | ---: | ---: | ---: |")
        for setting in SETTINGS[:settings]:
            typer.echo("\n".join(quality_rows(engine, cases, setting)))
    finally:
        engine.stop()


if __name__ == "__main__":
    with measurement():
        app()
