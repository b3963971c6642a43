# SPDX-License-Identifier: Apache-2.0
"""Two stock pipelines with one thread each, in two processes on one queue, like `instance_group { count: 2 }`.

It runs in real time, since both run at once.
"""

import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.engine.job import Job
from benchmarks.engine.outcome import Outcome
from benchmarks.engine.stock_pipeline import StockPipeline, Weights


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """A job, and the start of its trace on the clock that all processes share."""

    job: Job
    trace_start: float


class TwoStockProcesses:
    """Two processes with one core each. Each works on one request at a time."""

    def __init__(self, name: str, weights: Weights, *, count: int = 2) -> None:
        self.name = name
        context = multiprocessing.get_context("spawn")
        self._queue: Any = context.Queue()
        self._outcomes: Any = context.Queue()
        arguments = (weights, self._queue, self._outcomes)
        self._processes = [context.Process(target=work, args=arguments, daemon=True) for _ in range(count)]
        for process in self._processes:
            process.start()
        for _ in self._processes:
            self._outcomes.get()  # the process has loaded

    def warm_up(self) -> None:
        self.run([Job(index=index, arrival=0, num_steps=4) for index in range(2 * len(self._processes))])

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        start = time.monotonic()
        for job in jobs:
            time.sleep(max(0.0, start + job.arrival - time.monotonic()))
            self._queue.put(QueuedJob(job, start))
        return [self._outcomes.get() for _ in jobs]

    def profile(self) -> None:
        """None: only engines have a profile."""

    def close(self) -> None:
        for _ in self._processes:
            self._queue.put(None)
        for process in self._processes:
            process.join()


def work(weights: Weights, queue: Any, outcomes: Any) -> None:
    """Run a pipeline with one thread in this process, and serve one request after another."""
    import torch

    torch.set_num_threads(1)
    stock = StockPipeline.load(weights)
    stock.warm_up()
    outcomes.put(None)
    while (queued_job := queue.get()) is not None:
        outcomes.put(serve(queued_job, stock))


def serve(queued_job: QueuedJob, stock: StockPipeline) -> Outcome:
    job = queued_job.job
    if time.monotonic() - queued_job.trace_start >= job.leaves_at:
        return Outcome(job=job, ended=job.leaves_at)
    step_ends: list[float] = []
    stock.generate([job], lambda: step_ends.append(time.monotonic() - queued_job.trace_start))
    ended = time.monotonic() - queued_job.trace_start
    return Outcome(job=job, ended=ended, wasted_steps=sum(end > job.leaves_at for end in step_ends))
