# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.engine.reproducible`: the cost of `reproducible`, and the differences that it prevents.

Cost: the same pictures are made all at once, and none, a quarter or all of them are reproducible. The figure is the
rate relative to none in the same round. Differences: pictures made at once are compared with the same pictures made
alone, with and without `reproducible`. The figure is the largest difference of any colour value.
"""

import io
import threading
import time
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer
from diffusion_engine.engine import Engine
from diffusion_engine.errors import RequestError
from diffusion_engine.request_parser import parse_request
from diffusion_engine.request_state import GeneratedPicture
from diffusion_engine.row_limits import RowLimits
from PIL import Image

import benchmarks.engine.stock_openmp  # noqa: F401
from benchmarks.common.measurement_lock import measurement
from benchmarks.common.ratio import Ratio
from benchmarks.engine import torch_device
from benchmarks.engine.job import scribble_file
from benchmarks.engine.stock_pipeline import StockPipeline, Weights

app = typer.Typer(add_completion=False)

SHARES = {"none": 0, "a quarter": 4, "all": 1}  # every n-th picture is reproducible; 0: none
NUM_COMPARED = 10
# From hardly any amplification of rounding to much.
CASES: dict[str, dict[str, Any]] = {
    "the defaults": {},
    "lcm, 20 steps": {"scheduler": b"lcm", "num_inference_steps": 20},
    "guidance 15, 40 steps": {"guidance_scale": 15.0, "num_inference_steps": 40},
    "lcm, 20 steps, guidance 15, no scribble": {
        "scheduler": b"lcm",
        "num_inference_steps": 20,
        "guidance_scale": 15.0,
        "conditioning_scale": 0.0,
    },
}


class Waiter:
    """A listener that waits for one picture."""

    def __init__(self) -> None:
        self._is_done = threading.Event()
        self._outcome: GeneratedPicture | RequestError | None = None

    def moved(self, position: object) -> None: ...

    def progress(self, step: int, num_steps: int, preview: bytes | None) -> None: ...

    def completed(self, picture: GeneratedPicture) -> None:
        self._outcome = picture
        self._is_done.set()

    def failed(self, error: RequestError) -> None:
        self._outcome = error
        self._is_done.set()

    def picture(self) -> GeneratedPicture:
        self._is_done.wait()
        if not isinstance(self._outcome, GeneratedPicture):
            raise self._outcome or RuntimeError("the engine reported neither a picture nor an error")
        return self._outcome

    def pixels(self) -> npt.NDArray[np.int16]:
        return np.asarray(Image.open(io.BytesIO(self.picture().content))).astype(np.int16)


def submit(engine: Engine, index: int, **values: Any) -> Waiter:
    request: Mapping[str, Any] = {
        "prompt": f"a red house, number {index}".encode(),
        "image": scribble_file(index),
        "seed": index,
        "output_format": b"png",
        **values,
    }
    waiter = Waiter()
    engine.submit(parse_request(request, engine.capabilities), waiter)
    return waiter


def seconds(engine: Engine, *, num_pictures: int, every: int) -> float:
    started = time.perf_counter()
    waiters = [
        submit(engine, index, num_inference_steps=8, reproducible=bool(every) and index % every == 0)
        for index in range(num_pictures)
    ]
    for waiter in waiters:
        waiter.pixels()
    return time.perf_counter() - started


def differences(engine: Engine, *, num_pictures: int, **values: Any) -> list[int]:
    """Make pictures all at once and alone. Returns the largest difference of any colour value for each."""
    request = {"width": 96, "height": 96, **values}
    waiters = [submit(engine, index, **request) for index in range(num_pictures)]
    together = [waiter.pixels() for waiter in waiters]
    alone = [submit(engine, index, **request).pixels() for index in range(num_pictures)]
    return [int(np.abs(one - other).max()) for one, other in zip(together, alone, strict=True)]


@app.command(help=__doc__)
def main(
    rounds: Annotated[int, typer.Option(help="Rounds of the measurement of the cost.")] = 5,
    num_pictures: Annotated[int, typer.Option(help="Pictures made at once.")] = 16,
    max_rows: int = 16,
) -> None:
    stock = StockPipeline.load(Weights())
    engine = Engine(stock.networks, stock.capabilities, RowLimits({}, default=max_rows))
    engine.start()
    try:
        seconds(engine, num_pictures=num_pictures, every=0)  # warm-up
        took = [
            {name: seconds(engine, num_pictures=num_pictures, every=every) for name, every in SHARES.items()}
            for _ in range(rounds)
        ]
        typer.echo(torch_device.describe(stock.pipeline.device))
        typer.echo(f"{num_pictures} pictures of 8 steps at once, {rounds} rounds; pictures/s relative to none")
        for name in SHARES:
            ratio = Ratio.of([each["none"] / each[name] for each in took])
            typer.echo(f"  {name:10} reproducible: {ratio}")
        typer.echo(
            f"{NUM_COMPARED} pictures made at once, compared with the same made alone: largest difference, of 255"
        )
        for name, values in CASES.items():
            for reproducible in (False, True):
                found = differences(engine, num_pictures=NUM_COMPARED, **values, reproducible=reproducible)
                typer.echo(f"  {name}{', reproducible' if reproducible else ''}: {max(found)} {found}")
    finally:
        engine.stop()


if __name__ == "__main__":
    with measurement():
        app()
