# SPDX-License-Identifier: Apache-2.0
"""What `reproducible` costs, and what it prevents: `python -m benchmarks.reproducible`.

Cost: the same pictures, all at once, of which none, a quarter or all are reproducible; pictures per second as a ratio
to none in the same round. Differences: one picture alone and among 15 others, with and without `reproducible`, as the
largest difference of any colour value.
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
from diffusion_engine.generation import GeneratedPicture
from diffusion_engine.intake import read_request
from diffusion_engine.request import RequestError
from diffusion_engine.row_limits import RowLimits
from PIL import Image

import benchmarks.openmp  # noqa: F401
from benchmarks.engine import machine
from benchmarks.engine.job import scribble_file
from benchmarks.engine.stock import Stock, Weights
from benchmarks.ratio import Ratio

app = typer.Typer(add_completion=False)

SHARES = {"none": 0, "a quarter": 4, "all": 1}  # every how many-th is reproducible
AMPLIFYING: dict[str, dict[str, Any]] = {
    "the defaults": {},
    "lcm, 8 steps": {"scheduler": b"lcm", "num_inference_steps": 8},
    "lcm, 50 steps": {"scheduler": b"lcm", "num_inference_steps": 50},
    "guidance 10, 50 steps": {"guidance_scale": 10.0, "num_inference_steps": 50},
    "guidance 30, 50 steps": {"guidance_scale": 30.0, "num_inference_steps": 50},
}


class Waiter:
    """Waits for one picture."""

    def __init__(self) -> None:
        self._is_done = threading.Event()
        self._outcome: GeneratedPicture | RequestError | None = None

    def progress(self, step: int, num_steps: int, preview: bytes | None) -> None: ...

    def completed(self, picture: GeneratedPicture) -> None:
        self._outcome = picture
        self._is_done.set()

    def failed(self, error: RequestError) -> None:
        self._outcome = error
        self._is_done.set()

    def pixels(self) -> npt.NDArray[np.int16]:
        self._is_done.wait()
        if not isinstance(self._outcome, GeneratedPicture):
            raise self._outcome or RuntimeError("no outcome")
        return np.asarray(Image.open(io.BytesIO(self._outcome.content))).astype(np.int16)


def submit(engine: Engine, index: int, **values: Any) -> Waiter:
    asked: Mapping[str, Any] = {
        "prompt": f"a red house, number {index}".encode(),
        "image": scribble_file(index),
        "seed": index,
        "output_format": b"png",
        **values,
    }
    waiter = Waiter()
    engine.submit(read_request(asked, engine.capabilities), waiter)
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


def largest_difference(engine: Engine, *, company: int, **values: Any) -> int:
    """Of one picture: made alone, and among others with other step counts."""
    alone = submit(engine, 0, **values).pixels()
    among = submit(engine, 0, **values)
    others = [submit(engine, 100 + index, num_inference_steps=3 + 3 * index) for index in range(company)]
    found = int(np.abs(among.pixels() - alone).max())
    for other in others:
        other.pixels()
    return found


@app.command(help=__doc__)
def main(
    rounds: Annotated[int, typer.Option(help="Of the cost.")] = 5,
    num_pictures: Annotated[int, typer.Option(help="At once.")] = 16,
    max_rows: int = 16,
) -> None:
    stock = Stock.load(Weights())
    engine = Engine(stock.networks, stock.capabilities, RowLimits({}, default=max_rows))
    engine.start()
    try:
        seconds(engine, num_pictures=num_pictures, every=0)  # not counted: the first passes prepare much
        took = [
            {name: seconds(engine, num_pictures=num_pictures, every=every) for name, every in SHARES.items()}
            for _ in range(rounds)
        ]
        typer.echo(machine.describe(stock.pipeline.device))
        typer.echo(f"{num_pictures} pictures of 8 steps at once, {rounds} rounds; pictures/s as a ratio to none")
        for name in SHARES:
            ratio = Ratio.of([each["none"] / each[name] for each in took])
            typer.echo(f"  {name:10} reproducible: {ratio}")
        typer.echo("largest difference to the picture made alone, of 255: plain, reproducible")
        for name, values in AMPLIFYING.items():
            plain, own = (largest_difference(engine, company=15, **values, reproducible=each) for each in (False, True))
            typer.echo(f"  {name:22} {plain:4} {own:4}")
    finally:
        engine.stop()


if __name__ == "__main__":
    app()
