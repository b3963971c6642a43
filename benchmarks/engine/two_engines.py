# SPDX-License-Identifier: Apache-2.0
"""Two engines with one thread each, in two processes; requests go to them in turn, as Triton deals them out."""

import multiprocessing
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.engine.job import Job
from benchmarks.engine.outcome import Outcome
from benchmarks.engine.stock import Stock, Weights


class TwoEngines:
    """Real time: both run at once, and each plays its callers itself."""

    def __init__(self, name: str, weights: Weights, *, max_rows: int, count: int = 2) -> None:
        self.name = name
        context = multiprocessing.get_context("spawn")
        pipes = [context.Pipe() for _ in range(count)]
        self._connections: list[Any] = [ours for ours, _ in pipes]
        self._processes = [
            context.Process(target=work, args=(weights, max_rows, theirs), daemon=True) for _, theirs in pipes
        ]
        for process in self._processes:
            process.start()
        for connection in self._connections:
            connection.recv()  # it has loaded and warmed up

    def warm_up(self) -> None:
        """Each did so before it said that it was ready."""

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        start = time.monotonic() + 0.02  # both have their orders by then
        count = len(self._connections)
        for number, connection in enumerate(self._connections):
            connection.send((start, list(jobs[number::count])))
        return [outcome for connection in self._connections for outcome in connection.recv()]

    def close(self) -> None:
        for connection in self._connections:
            connection.send(None)
        for process in self._processes:
            process.join()


def work(weights: Weights, max_rows: int, connection: Any) -> None:
    """One process: an engine with one thread."""
    import torch

    from benchmarks.engine.live_engine import LiveEngine

    torch.set_num_threads(1)
    live = LiveEngine("", Stock.load(weights), max_rows=max_rows)
    live.warm_up()
    connection.send(None)
    while (order := connection.recv()) is not None:
        start, jobs = order
        connection.send(live.run_from(start, jobs))
    live.close()
