# SPDX-License-Identifier: Apache-2.0
"""Rounds: each visits every cell, and in it every way once, in an order of its own."""

import asyncio
import logging
import random
import statistics
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from benchmarks import ROOT
from benchmarks.common import cpu_time
from benchmarks.common.closed_loop import BadAnswerError, Loop, drive
from benchmarks.frontend.payload import MODEL, SIZES, Payload
from benchmarks.frontend.peers import BEFORE, OURS_V2, Way
from benchmarks.frontend.sample import Cell, Sample
from benchmarks.frontend.servers import SERVERS, Running, checked_out, running
from fastapi_triton.embedded import EmbeddedTriton
from fastapi_triton.errors import FastAPITritonError
from fastapi_triton.triton.http import HTTPTriton

logger = logging.getLogger(__name__)

MODELS = ROOT / "benchmarks" / "frontend" / "models"
WARM_UP_S = 0.15


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure, and how long."""

    ways: Sequence[Way]
    cells: Sequence[Cell]
    num_rounds: int
    seconds: float
    first_round: int = 0
    before: str = ""  # a commit of this repository, for the ways that compare with it


class Bench:
    """One Triton and the servers in front of it."""

    def __init__(self, plan: Plan, triton: Running, servers: Mapping[str, Running]) -> None:
        self._plan = plan
        self._triton = triton
        self._servers = servers
        self._payloads = {cell.size: Payload.of(SIZES[cell.size]) for cell in plan.cells}

    async def rounds(self) -> AsyncIterator[list[Sample]]:
        """The samples of each round, once it is over."""
        plan = self._plan
        ways = [way for way in plan.ways if await self._answers(way)]
        for number in range(plan.first_round, plan.first_round + plan.num_rounds):
            order = random.Random(number)  # noqa: S311
            pairs = [(way, cell) for cell in plan.cells for way in order.sample(ways, len(ways))]
            yield [await self._sample(number, way, cell) for way, cell in pairs]
            logger.info("round %d is done", number + 1)

    async def _answers(self, way: Way) -> bool:
        """Whether it is there at all; `/v2` may be switched off, or not be built in yet."""
        loop = self._loop(way, self._plan.cells[0])
        try:
            await drive(loop, self._running(way).port, concurrency=1, seconds=0)
        except BadAnswerError as error:
            if way.name == OURS_V2 and str(error).startswith("404"):
                logger.warning("%s is left out: it answers 404", way.name)
                return False
            raise
        return True

    async def _sample(self, number: int, way: Way, cell: Cell) -> Sample:
        loop, server = self._loop(way, cell), self._running(way)
        await drive(loop, server.port, concurrency=cell.concurrency, seconds=WARM_UP_S)
        loop.latencies.clear()
        before = server.cpu_seconds(), self._triton.cpu_seconds(), time.process_time()
        took = await drive(loop, server.port, concurrency=cell.concurrency, seconds=self._plan.seconds)
        after = server.cpu_seconds(), self._triton.cpu_seconds(), time.process_time()
        num_answers = len(loop.latencies)
        own, triton, caller = (1000 * (late - early) / num_answers for early, late in zip(before, after, strict=True))
        latencies = sorted(loop.latencies)
        return Sample(
            round=number,
            way=way.name,
            size=cell.size,
            concurrency=cell.concurrency,
            num_answers=num_answers,
            seconds=took,
            cpu_ms=own if way.server else float("nan"),
            triton_cpu_ms=triton,
            caller_cpu_ms=caller,
            p50_ms=1000 * statistics.median(latencies),
            p95_ms=1000 * latencies[int(0.95 * (num_answers - 1))],
        )

    def _loop(self, way: Way, cell: Cell) -> Loop:
        payload = self._payloads[cell.size]
        request = payload.http_request(way.path, is_v2=way.is_v2, is_json=way.is_json)
        return Loop(request, lambda body: payload.is_answered_by(body, is_v2=way.is_v2))

    def _running(self, way: Way) -> Running:
        return self._triton if way.server is None else self._servers[way.server]


async def measure(plan: Plan) -> AsyncIterator[list[Sample]]:
    """Start everything, and measure round by round."""
    async with AsyncExitStack() as stack:
        triton = await stack.enter_async_context(EmbeddedTriton.prepare(MODELS))
        await _ready(triton.url)
        (guard,) = cpu_time.children()
        names = {way.server for way in plan.ways if way.server}
        roots = {BEFORE: stack.enter_context(checked_out(plan.before))} if BEFORE in names else {}
        servers = {
            name: await stack.enter_async_context(running(SERVERS[name], triton.url, roots.get(name, ROOT)))
            for name in sorted(names)
        }
        bench = Bench(plan, Running(triton.ports.http, guard), servers)
        async for samples in bench.rounds():
            yield samples


async def _ready(url: str) -> None:
    async with asyncio.timeout(120), HTTPTriton(url) as client:
        while True:
            try:
                if await client.ready(MODEL):
                    return
            except FastAPITritonError:
                logger.debug("Triton is not there yet")
            await asyncio.sleep(0.2)
