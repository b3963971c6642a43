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

from benchmarks.overload.connection_pool import Answer, ConnectionPool
from benchmarks.overload.embedded_frontend import Frontend

SAMPLE_EVERY_S = 5.0
# What comes before is warm-up.
SETTLE_S = 5.0


@dataclass(frozen=True, slots=True)
class Load:
    """What was offered, and what came of it. Rates are per second, times in seconds."""

    capacity: float
    offered: float
    seconds: float
    deadline_s: float
    answers: Sequence[Answer]
    num_lost: int
    rss_mb: Sequence[float]
    cpu: float  # of one core, of the frontend

    @property
    def served(self) -> list[float]:
        return sorted(each.latency_s for each in self.answers if each.status == 200)

    @property
    def goodput(self) -> float:
        """Answers within their deadline."""
        return sum(latency <= self.deadline_s for latency in self.served) / self.seconds

    @property
    def accepted(self) -> list[float]:
        """Those that were let in, late ones too."""
        return sorted(each.latency_s for each in self.answers if each.status in (200, 504))

    @property
    def refused(self) -> list[float]:
        return sorted(each.latency_s for each in self.answers if each.status in (429, 503))

    @property
    def lags(self) -> list[float]:
        """How late the requests went: what is the fault of the machine that asks."""
        return sorted(each.sent - each.due for each in self.answers)

    @property
    def counts(self) -> Counter[str]:
        return Counter(f"{each.status} {each.code}".strip() for each in self.answers)


def request(path: str, body: dict[str, object], *, timeout_s: float) -> bytes:
    data = orjson.dumps(body)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(data)}\r\nX-Request-Timeout: {timeout_s:g}\r\n\r\n"
    )
    return head.encode() + data


async def capacity(frontend: Frontend, asked: bytes, *, num_callers: int, seconds: float) -> float:
    """Answers per second to so many callers, each of whom asks again as soon as it is answered."""
    ends_at = time.perf_counter() + seconds
    done: list[float] = []

    def on_answer(answer: Answer) -> None:
        if answer.status == 200:
            done.append(answer.done)
        if answer.done < ends_at:
            pool.ask(asked, answer.done)

    pool = ConnectionPool(frontend.port, on_answer)
    for _ in range(num_callers):
        pool.ask(asked, time.perf_counter())
    await pool.settled()
    pool.close()
    begins_at = ends_at - seconds * 0.75
    return sum(begins_at <= each < ends_at for each in done) / (ends_at - begins_at)


async def offer(
    frontend: Frontend, asked: bytes, *, capacity: float, times: float, seconds: float, deadline_s: float, seed: int = 0
) -> Load:
    """Poisson arrivals at so many times the capacity, however slow the answers are."""
    answers: list[Answer] = []
    pool = ConnectionPool(frontend.port, answers.append)
    rng = random.Random(seed)  # noqa: S311
    rate = capacity * times
    rss = [frontend.rss_mb]
    began = sample_at = due = time.perf_counter()
    cpu = frontend.cpu_s
    while due < began + SETTLE_S + seconds:
        due += rng.expovariate(rate)
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        pool.ask(asked, due)
        if due > sample_at + SAMPLE_EVERY_S:
            sample_at = due
            rss.append(frontend.rss_mb)
    cpu = (frontend.cpu_s - cpu) / (SETTLE_S + seconds)
    await pool.settled()
    pool.close()
    counted = [each for each in answers if each.due >= began + SETTLE_S]
    return Load(capacity, rate, seconds, deadline_s, counted, pool.num_lost, rss, cpu)


def quantile(values: Sequence[float], share: float) -> float:
    """Of sorted values."""
    return values[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


def table(load: Load) -> list[str]:
    first, last = statistics.mean(load.rss_mb[2:6]), statistics.mean(load.rss_mb[-4:])
    retries = [each.retry_after_s for each in load.answers if each.retry_after_s is not None]
    return [
        f"capacity (closed loop)         {load.capacity:.1f}/s",
        f"offered (Poisson)              {load.offered:.0f}/s for {load.seconds:g} s, deadline {load.deadline_s:g} s",
        f"answers                        {', '.join(f'{key}: {count:,}' for key, count in load.counts.most_common())}",
        f"without any answer             {load.num_lost}",
        f"goodput                        {load.goodput:.1f}/s, {load.goodput / load.capacity:.1%} of capacity",
        f"accepted (late ones too)       p50 {quantile(load.accepted, 0.5) * 1e3:.0f} ms, "
        f"p99 {quantile(load.accepted, 0.99) * 1e3:.0f} ms",
        f"refused                        p50 {quantile(load.refused, 0.5) * 1e3:.1f} ms, "
        f"p99 {quantile(load.refused, 0.99) * 1e3:.1f} ms",
        f"Retry-After                    {min(retries, default=0):g} to {max(retries, default=0):g} s",
        f"requests went late by          p50 {quantile(load.lags, 0.5) * 1e3:.1f} ms, "
        f"p99 {quantile(load.lags, 0.99) * 1e3:.1f} ms",
        f"frontend                       {load.cpu:.0%} of a core, RSS {first:.1f} MB early, {last:.1f} MB at the end",
    ]
