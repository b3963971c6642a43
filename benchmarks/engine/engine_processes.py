# SPDX-License-Identifier: Apache-2.0
"""Peers that run engines in their own processes: one with all cores, or several that share them.

Several get the requests in turn, like the instances of a model in Triton.
"""

import multiprocessing
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.engine.engine_profiler import EngineProfile
from benchmarks.engine.job import Job
from benchmarks.engine.outcome import Outcome
from benchmarks.engine.stock_pipeline import StockPipeline, Weights


class EngineProcesses:
    """Runs in real time. Each process plays its own clients."""

    def __init__(self, name: str, weights: Weights, *, max_rows: int, count: int, num_threads: int) -> None:
        self.name = name
        self._profiles: list[EngineProfile] = []
        context = multiprocessing.get_context("spawn")
        pipes = [context.Pipe() for _ in range(count)]
        self._connections: list[Any] = [ours for ours, _ in pipes]
        self._processes = [
            context.Process(target=work, args=(weights, max_rows, num_threads, theirs), daemon=True)
            for _, theirs in pipes
        ]
        for process in self._processes:
            process.start()
        for connection in self._connections:
            connection.recv()  # the process has loaded and warmed up

    def warm_up(self) -> None:
        """Nothing to do: each process warmed up when it started."""

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        start = time.monotonic() + 0.02  # all processes have their jobs by then
        count = len(self._connections)
        for number, connection in enumerate(self._connections):
            connection.send((start, list(jobs[number::count])))
        results = [connection.recv() for connection in self._connections]
        self._profiles = [profile for _, profile in results]
        return [outcome for outcomes, _ in results for outcome in outcomes]

    def profile(self) -> EngineProfile | None:
        """The profile of the last run, if there is one engine."""
        return self._profiles[0] if len(self._profiles) == 1 else None

    def close(self) -> None:
        for connection in self._connections:
            connection.send(None)
        for process in self._processes:
            process.join()


def work(weights: Weights, max_rows: int, num_threads: int, connection: Any) -> None:
    """Run an engine in this process, and the jobs that the connection sends."""
    import torch

    from benchmarks.engine.in_process_engine import InProcessEngine

    torch.set_num_threads(num_threads)
    live = InProcessEngine("", StockPipeline.load(weights), max_rows=max_rows)
    live.warm_up()
    connection.send(None)
    while (run := connection.recv()) is not None:
        start, jobs = run
        connection.send((live.run_from(start, jobs), live.profile()))
    live.close()
