# SPDX-License-Identifier: Apache-2.0
"""More load than the model can serve: its capacity in a closed loop, then a multiple of it in an open loop."""

import asyncio
import random
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from benchmarks.overload.connection_pool import ConnectionPool, Response
from benchmarks.overload.embedded_frontend import Frontend

SAMPLE_EVERY_S = 5.0
# Responses before this are warm-up.
SETTLE_S = 5.0


@dataclass(frozen=True, slots=True)
class Load:
    """The offered load and its results. Rates are per second, times in seconds."""

    capacity: float
    offered: float
    seconds: float
    deadline_s: float
    responses: Sequence[Response]
    num_lost: int
    rss_mb: Sequence[float]
    cpu: float  # the frontend's share of one core

    @property
    def served(self) -> list[float]:
        return sorted(each.latency_s for each in self.responses if each.status == 200)

    @property
    def goodput(self) -> float:
        """Responses with 200 within their deadline, per second."""
        return sum(latency <= self.deadline_s for latency in self.served) / self.seconds

    @property
    def admitted(self) -> list[float]:
        """Latencies of admitted requests, including those that missed their deadline."""
        return sorted(each.latency_s for each in self.responses if each.status in (200, 504))

    @property
    def rejected(self) -> list[float]:
        return sorted(each.latency_s for each in self.responses if each.status in (429, 503))

    @property
    def lags(self) -> list[float]:
        """Delays before the requests were sent, which are the benchmark's own."""
        return sorted(each.sent - each.due for each in self.responses)

    @property
    def counts(self) -> Counter[str]:
        return Counter(f"{each.status} {each.code}".strip() for each in self.responses)


def request(path: str, body: dict[str, object], *, timeout_s: float) -> bytes:
    data = orjson.dumps(body)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(data)}\r\nX-Request-Timeout: {timeout_s:g}\r\n\r\n"
    )
    return head.encode() + data


async def capacity(frontend: Frontend, request_bytes: bytes, *, num_clients: int, seconds: float) -> float:
    """Responses per second in a closed loop: each client sends its next request as soon as it has a response."""
    ends_at = time.perf_counter() + seconds
    done: list[float] = []

    def on_response(response: Response) -> None:
        if response.status == 200:
            done.append(response.done)
        if response.done < ends_at:
            pool.send(request_bytes, response.done)

    pool = ConnectionPool(frontend.port, on_response)
    for _ in range(num_clients):
        pool.send(request_bytes, time.perf_counter())
    await pool.settled()
    pool.close()
    begins_at = ends_at - seconds * 0.75
    return sum(begins_at <= each < ends_at for each in done) / (ends_at - begins_at)


async def offer(
    frontend: Frontend,
    request_bytes: bytes,
    *,
    capacity: float,
    times: float,
    seconds: float,
    deadline_s: float,
    seed: int = 0,
) -> Load:
    """Poisson arrivals at a multiple of the capacity, however slow the responses are."""
    responses: list[Response] = []
    pool = ConnectionPool(frontend.port, responses.append)
    rng = random.Random(seed)  # noqa: S311
    rate = capacity * times
    rss = [frontend.rss_mb]
    began = sample_at = due = time.perf_counter()
    cpu = frontend.cpu_s
    while due < began + SETTLE_S + seconds:
        due += rng.expovariate(rate)
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        pool.send(request_bytes, due)
        if due > sample_at + SAMPLE_EVERY_S:
            sample_at = due
            rss.append(frontend.rss_mb)
    cpu = (frontend.cpu_s - cpu) / (SETTLE_S + seconds)
    await pool.settled()
    pool.close()
    counted = [each for each in responses if each.due >= began + SETTLE_S]
    return Load(capacity, rate, seconds, deadline_s, counted, pool.num_lost, rss, cpu)


def quantile(values: Sequence[float], share: float) -> float:
    """A quantile of sorted values."""
    return values[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


def table(load: Load) -> list[str]:
    first, last = statistics.mean(load.rss_mb[2:6]), statistics.mean(load.rss_mb[-4:])
    retries = [each.retry_after_s for each in load.responses if each.retry_after_s is not None]
    return [
        f"capacity (closed loop)         {load.capacity:.1f}/s",
        f"offered (Poisson)              {load.offered:.0f}/s for {load.seconds:g} s, deadline {load.deadline_s:g} s",
        f"responses                      {', '.join(f'{key}: {count:,}' for key, count in load.counts.most_common())}",
        f"without a response             {load.num_lost}",
        f"goodput                        {load.goodput:.1f}/s, {load.goodput / load.capacity:.1%} of capacity",
        f"admitted (including late ones) p50 {quantile(load.admitted, 0.5) * 1e3:.0f} ms, "
        f"p99 {quantile(load.admitted, 0.99) * 1e3:.0f} ms",
        f"rejected                       p50 {quantile(load.rejected, 0.5) * 1e3:.1f} ms, "
        f"p99 {quantile(load.rejected, 0.99) * 1e3:.1f} ms",
        f"Retry-After                    {min(retries, default=0):g} to {max(retries, default=0):g} s",
        f"requests sent late by          p50 {quantile(load.lags, 0.5) * 1e3:.1f} ms, "
        f"p99 {quantile(load.lags, 0.99) * 1e3:.1f} ms",
        f"frontend                       {load.cpu:.0%} of a core, RSS {first:.1f} MB early, {last:.1f} MB at the end",
    ]
