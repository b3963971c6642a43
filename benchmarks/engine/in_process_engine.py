# SPDX-License-Identifier: Apache-2.0
"""A peer that runs the engine with its threads in this process, in real time, with a preview after every step."""

import threading
import time
from collections.abc import Sequence

from diffusion_engine.engine import Engine
from diffusion_engine.errors import RequestError
from diffusion_engine.request_parser import RowValues, parse_request
from diffusion_engine.request_state import GeneratedPicture, RequestState
from diffusion_engine.row_limits import RowLimits

from benchmarks.engine.engine_profiler import EngineProfile, EngineProfiler
from benchmarks.engine.job import Job, scribble_file
from benchmarks.engine.outcome import Outcome
from benchmarks.engine.stock_pipeline import StockPipeline


class JobListener:
    """Records the outcome of one job."""

    def __init__(self, job: Job, start: float) -> None:
        self.job = job
        self.state: RequestState | None = None
        self.steps_at_disconnect = 0
        self.first_preview: float | None = None
        self.ended = 0.0
        self.picture: bytes = b""
        self.error: RequestError | None = None
        self.is_done = threading.Event()
        self._start = start

    def moved(self, position: object) -> None: ...

    def progress(self, step: int, num_steps: int, preview: bytes | None) -> None:
        del step, num_steps
        if preview is not None and self.first_preview is None:
            self.first_preview = time.monotonic() - self._start

    def completed(self, picture: GeneratedPicture) -> None:
        self.picture = picture.content
        self._end()

    def failed(self, error: RequestError) -> None:
        self.error = error
        self._end()

    def disconnect(self) -> None:
        if self.state is not None:
            self.steps_at_disconnect = self.state.step_index
            self.state.cancel()

    def outcome(self) -> Outcome:
        """Wait for the outcome. An error raises, unless it is `cancelled`."""
        self.is_done.wait()
        if self.error is not None and self.error.code != "cancelled":
            raise self.error
        wasted = 0
        if self.error is not None and self.state is not None:
            wasted = self.state.step_index - self.steps_at_disconnect
        return Outcome(
            job=self.job,
            ended=self.ended,
            first_preview=self.first_preview,
            wasted_steps=wasted,
            steps_before_leaving=self.steps_at_disconnect,
        )

    def _end(self) -> None:
        self.ended = time.monotonic() - self._start
        self.is_done.set()


class InProcessEngine:
    """An engine whose clients arrive and disconnect according to the trace."""

    def __init__(self, name: str, stock: StockPipeline, *, max_rows: int) -> None:
        self.name = name
        self.max_rows = max_rows
        networks = stock.networks
        self.engine = Engine(
            networks,
            stock.capabilities,
            RowLimits({}, default=max_rows),
            max_requests=10_000,
            library=stock.library,
        )
        self._profiler = EngineProfiler(self.engine, networks, max_rows=max_rows)
        self.engine.start()

    def warm_up(self) -> None:
        """Run requests that end one after another, so that passes with each number of rows run."""
        count = self.max_rows // 2
        self.run([Job(index=index, arrival=0, num_steps=2 + index) for index in range(count)])

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        return self.run_from(time.monotonic(), jobs)

    def run_from(self, start: float, jobs: Sequence[Job]) -> list[Outcome]:
        """Run jobs from `start` on, a time of `time.monotonic()`, which other processes can share."""
        return [each.outcome() for each in self._listeners(start, jobs)]

    def pictures(self, jobs: Sequence[Job]) -> list[bytes]:
        """The picture files. Raises the error of a job without one."""
        listeners = self._listeners(time.monotonic(), jobs)
        for each in listeners:
            each.outcome()
        return [each.picture for each in listeners]

    def profile(self) -> EngineProfile:
        """The profile of the last run."""
        return self._profiler.profile()

    def close(self) -> None:
        self.engine.stop()

    def _listeners(self, start: float, jobs: Sequence[Job]) -> list[JobListener]:
        """Submit and cancel at each job's times. Returns after the last of these, before the pictures are finished."""
        self._profiler.reset()
        listeners = {job.index: JobListener(job, start) for job in jobs}
        arrivals = [(job.arrival, 0, job.index) for job in jobs]
        disconnects = [(job.leaves_at, 1, job.index) for job in jobs if not job.stays]
        for at, is_disconnect, index in sorted(arrivals + disconnects):
            time.sleep(max(0.0, start + at - time.monotonic()))
            if is_disconnect:
                listeners[index].disconnect()
            else:
                self._submit(listeners[index])
        return list(listeners.values())

    def _submit(self, listener: JobListener) -> None:
        job = listener.job
        values: RowValues = {
            "prompt": job.prompt.encode(),
            "image": scribble_file(job.index),
            "num_inference_steps": job.num_steps,
            "seed": job.index,
            **job.options,
        }
        request = parse_request(values, self.engine.capabilities)
        listener.state = self.engine.submit(request, listener, preview_every=1)
