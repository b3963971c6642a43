# SPDX-License-Identifier: Apache-2.0
"""Simulate a fleet event by event: requests join between passes, share them, and leave. Nothing is averaged."""

import heapq
import random
import statistics
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from benchmarks.capacity.load import Load, Outcome
from benchmarks.capacity.replica import Replica
from benchmarks.engine.job import Job


@dataclass(slots=True, eq=False)
class _Request:
    arrival: float
    steps_left: int
    leaves_at: float
    stays: bool


@dataclass(slots=True)
class _Engine:
    """The requests of one replica. `is_busy` while a pass runs."""

    running: list[_Request] = field(default_factory=list)
    waiting: deque[_Request] = field(default_factory=deque)
    is_busy: bool = False

    @property
    def num_requests(self) -> int:
        return len(self.running) + len(self.waiting)


@dataclass(slots=True)
class SimulationRecord:
    """The results of a simulation."""

    latencies: list[float] = field(default_factory=list)
    num_rejected: int = 0
    num_arrived: int = 0
    busy_s: float = 0.0
    ended_at: float = 0.0

    def outcome(self, num_replicas: int) -> Outcome:
        """Percentiles of the admitted requests."""
        ordered = sorted(self.latencies)

        def at(share: float) -> float:
            return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

        return Outcome(
            p50_s=at(0.5),
            p95_s=at(0.95),
            p99_s=at(0.99),
            mean_s=statistics.fmean(ordered),
            rejected=self.num_rejected / self.num_arrived,
            busy=self.busy_s / (num_replicas * self.ended_at),
        )


def poisson(load: Load, *, num_jobs: int, seed: int) -> Iterator[Job]:
    """`num_jobs` random arrivals."""
    draw, now = random.Random(seed), 0.0  # noqa: S311
    for index in range(num_jobs):
        now += draw.expovariate(load.rate)
        yield Job(index=index, arrival=now, num_steps=draw.choice(load.step_counts))


def simulate(replica: Replica, load: Load, jobs: Iterable[Job], *, seed: int = 0) -> SimulationRecord:
    """Send each job to the less loaded of two random replicas, as Ray Serve does."""
    return _Fleet(replica, load, seed).run(jobs)


class _Fleet:
    def __init__(self, replica: Replica, load: Load, seed: int) -> None:
        self._replica = replica
        self._load = load
        self._engines = [_Engine() for _ in range(load.num_replicas)]
        self._draw = random.Random(seed)  # noqa: S311
        self._ends: list[tuple[float, int]] = []
        self._record = SimulationRecord()
        self._in_flight = 0

    def run(self, jobs: Iterable[Job]) -> SimulationRecord:
        for job in jobs:
            self._until(job.arrival)
            self._arrive(job)
        self._until(float("inf"))
        return self._record

    def _until(self, time: float) -> None:
        while self._ends and self._ends[0][0] <= time:
            now, number = heapq.heappop(self._ends)
            self._record.ended_at = now
            self._engines[number].is_busy = False
            self._retire(self._engines[number], now)
            self._start(number, now)

    def _arrive(self, job: Job) -> None:
        self._record.num_arrived += 1
        if self._in_flight >= self._load.max_in_flight:
            self._record.num_rejected += 1
            return
        self._in_flight += 1
        drawn = self._draw.sample(range(len(self._engines)), min(2, len(self._engines)))
        number = min(drawn, key=lambda each: self._engines[each].num_requests)
        self._engines[number].waiting.append(_Request(job.arrival, job.num_steps, job.leaves_at, job.stays))
        if not self._engines[number].is_busy:
            self._start(number, job.arrival)

    def _start(self, number: int, now: float) -> None:
        engine = self._engines[number]
        while engine.waiting and len(engine.running) < self._replica.max_running:
            request = engine.waiting.popleft()
            if request.leaves_at <= now:
                self._in_flight -= 1
            else:
                engine.running.append(request)
        if not engine.running:
            return
        num_ending = sum(request.steps_left == 1 for request in engine.running)
        lasts_s = self._replica.pass_time_s(len(engine.running)) + num_ending * self._replica.picture_s
        self._record.busy_s += lasts_s
        engine.is_busy = True
        heapq.heappush(self._ends, (now + lasts_s, number))

    def _retire(self, engine: _Engine, now: float) -> None:
        kept = []
        for request in engine.running:
            request.steps_left -= 1
            if request.steps_left and request.leaves_at > now:
                kept.append(request)
                continue
            self._in_flight -= 1
            if request.stays:
                self._record.latencies.append(now - request.arrival)
        engine.running = kept
