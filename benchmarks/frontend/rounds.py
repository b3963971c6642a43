# SPDX-License-Identifier: Apache-2.0
"""Measurement rounds: each measures every workload on every peer once, in random order."""

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
from benchmarks.common.closed_loop import BadResponseError, Loop, drive
from benchmarks.frontend.payload import MODEL, SIZES, Payload
from benchmarks.frontend.peers import BEFORE, OURS_V2, Peer
from benchmarks.frontend.sample import Sample, Workload
from benchmarks.frontend.servers import SERVERS, Running, checked_out, running
from fastapi_triton.core.errors import FastAPITritonError
from fastapi_triton.embedded.triton_process import EmbeddedTriton
from fastapi_triton.triton.http_client import HTTPTriton

logger = logging.getLogger(__name__)

MODELS = ROOT / "benchmarks" / "frontend" / "models"
WARM_UP_S = 0.15


@dataclass(frozen=True, slots=True)
class Plan:
    """The measurements of a run."""

    peers: Sequence[Peer]
    workloads: Sequence[Workload]
    num_rounds: int
    seconds: float
    first_round: int = 0
    before: str = ""  # the commit of the peers called `before`


class Bench:
    """One Triton and the servers in front of it."""

    def __init__(self, plan: Plan, triton: Running, servers: Mapping[str, Running]) -> None:
        self._plan = plan
        self._triton = triton
        self._servers = servers
        self._payloads = {workload.size: Payload.of(SIZES[workload.size]) for workload in plan.workloads}

    async def rounds(self) -> AsyncIterator[list[Sample]]:
        """Yield the samples of each round."""
        plan = self._plan
        peers = [peer for peer in plan.peers if await self._responds(peer)]
        for number in range(plan.first_round, plan.first_round + plan.num_rounds):
            order = random.Random(number)  # noqa: S311
            pairs = [(peer, workload) for workload in plan.workloads for peer in order.sample(peers, len(peers))]
            yield [await self._sample(number, peer, workload) for peer, workload in pairs]
            logger.info("round %d is done", number + 1)

    async def _responds(self, peer: Peer) -> bool:
        """Whether the peer exists: `/v2` may be switched off, or missing in an earlier commit."""
        loop = self._loop(peer, self._plan.workloads[0])
        try:
            await drive(loop, self._running(peer).port, concurrency=1, seconds=0)
        except BadResponseError as error:
            if peer.name == OURS_V2 and str(error).startswith("404"):
                logger.warning("%s is skipped: it returns 404", peer.name)
                return False
            raise
        return True

    async def _sample(self, number: int, peer: Peer, workload: Workload) -> Sample:
        loop, server = self._loop(peer, workload), self._running(peer)
        await drive(loop, server.port, concurrency=workload.concurrency, seconds=WARM_UP_S)
        loop.latencies.clear()
        before = server.cpu_seconds(), self._triton.cpu_seconds(), time.process_time()
        took = await drive(loop, server.port, concurrency=workload.concurrency, seconds=self._plan.seconds)
        after = server.cpu_seconds(), self._triton.cpu_seconds(), time.process_time()
        num_answers = len(loop.latencies)
        own, triton, clients = (1000 * (late - early) / num_answers for early, late in zip(before, after, strict=True))
        latencies = sorted(loop.latencies)
        return Sample(
            round=number,
            peer=peer.name,
            size=workload.size,
            concurrency=workload.concurrency,
            num_answers=num_answers,
            seconds=took,
            cpu_ms=own if peer.server else float("nan"),
            triton_cpu_ms=triton,
            caller_cpu_ms=clients,
            p50_ms=1000 * statistics.median(latencies),
            p95_ms=1000 * latencies[int(0.95 * (num_answers - 1))],
        )

    def _loop(self, peer: Peer, workload: Workload) -> Loop:
        payload = self._payloads[workload.size]
        request = payload.http_request(peer.path, is_v2=peer.is_v2, is_json=peer.is_json)
        return Loop(request, lambda body: payload.is_in(body, is_v2=peer.is_v2))

    def _running(self, peer: Peer) -> Running:
        return self._triton if peer.server is None else self._servers[peer.server]


async def measure(plan: Plan) -> AsyncIterator[list[Sample]]:
    """Start Triton and the servers, and yield the samples of each round."""
    async with AsyncExitStack() as stack:
        triton = await stack.enter_async_context(EmbeddedTriton.prepare(MODELS))
        await _ready(triton.url)
        (guard,) = cpu_time.children()
        names = {peer.server for peer in plan.peers if peer.server}
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
                logger.debug("Triton does not respond yet")
            await asyncio.sleep(0.2)
