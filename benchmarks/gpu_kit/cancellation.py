# SPDX-License-Identifier: Apache-2.0
"""Part `cancellation`: how soon the rows of a cancelled request serve the next one.

The engine has rows for one request. The first is cancelled in the middle of its steps while a second one waits.
"""

import threading
import time
from collections.abc import Callable

from diffusion_engine.engine import Engine
from diffusion_engine.errors import RequestError
from diffusion_engine.request_parser import RowValues, parse_request
from diffusion_engine.request_state import GeneratedPicture, RequestState
from diffusion_engine.row_limits import RowLimits

from benchmarks.engine.job import scribble_file
from benchmarks.gpu_kit.bench import Bench


class StepListener:
    """Notes when each step was reported, and waits for steps and for the end."""

    def __init__(self) -> None:
        self.reported_at: list[float] = []
        self.error: RequestError | None = None
        self._is_over = False
        self._changed = threading.Condition()

    def moved(self, position: object) -> None: ...

    def progress(self, step: int, num_steps: int, preview: bytes | None) -> None:
        del step, num_steps, preview
        with self._changed:
            self.reported_at.append(time.monotonic())
            self._changed.notify_all()

    def completed(self, picture: GeneratedPicture) -> None:
        del picture
        self._end()

    def failed(self, error: RequestError) -> None:
        self.error = error
        self._end()

    def wait_for_reports(self, count: int) -> None:
        self._wait(lambda: len(self.reported_at) >= count)

    def wait(self) -> None:
        """Wait for the end. Raises the error of a request that failed, unless it was cancelled."""
        self._wait(lambda: False)

    def _wait(self, is_enough: Callable[[], bool]) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_over or is_enough())
            if self.error is not None and self.error.code != "cancelled" and not is_enough():
                raise self.error

    def _end(self) -> None:
        with self._changed:
            self._is_over = True
            self._changed.notify_all()


def measure(bench: Bench) -> None:
    pipeline = bench.pipeline()
    engine = Engine(bench.networks(pipeline), bench.capabilities, RowLimits({}, default=2))
    engine.start()
    try:
        for number in range(bench.plan.cancellations + 1):
            measure_one(bench, engine, is_warm_up=number == 0)
    finally:
        engine.stop()
    bench.note("`steps after` counts the cancelled request's steps that ended after the cancellation.")


def measure_one(bench: Bench, engine: Engine, *, is_warm_up: bool) -> None:
    first, second = StepListener(), StepListener()
    cancelled = submit(engine, first, num_steps=bench.plan.cancelled_steps)
    first.wait_for_reports(1)
    submit(engine, second, num_steps=2)
    first.wait_for_reports(4)
    freed_before = engine.metrics.value("sdxl_engine_cancel_to_free_seconds_total")
    step_before, at = cancelled.step_index, time.monotonic()
    cancelled.cancel()
    first.wait()
    second.wait()
    if is_warm_up:
        return
    times = first.reported_at
    bench.row(
        step_ms=1000 * (times[-1] - times[0]) / (len(times) - 1),
        steps_after=cancelled.step_index - step_before,
        ms_until_rows_are_free=1000 * (engine.metrics.value("sdxl_engine_cancel_to_free_seconds_total") - freed_before),
        ms_until_the_next_request_ended_a_step=1000 * (second.reported_at[0] - at),
    )


def submit(engine: Engine, listener: StepListener, *, num_steps: int) -> RequestState:
    values: RowValues = {
        "prompt": b"a red house",
        "image": scribble_file(0),
        "num_inference_steps": num_steps,
        "seed": 1,
    }
    return engine.submit(parse_request(values, engine.capabilities), listener)
