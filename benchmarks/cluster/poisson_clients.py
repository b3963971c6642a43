# SPDX-License-Identifier: Apache-2.0
"""Clients with Poisson arrivals (an open loop), and their responses."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import aiohttp
import orjson

TIMEOUT_S = 120.0
BODY = {"text": "a"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What one caller was told, and when. No status: the connection broke, or nothing came at all."""

    asked_at: float
    latency_s: float
    status: int
    code: str = ""

    @property
    def told(self) -> str:
        return f"{self.status} {self.code}".strip() if self.status else self.code


async def poisson(url: str, *, rate: float, seconds: float, seed: int) -> list[Answer]:
    """Ask `url` so many times a second on average; the end is when all are answered."""
    chance = random.Random(seed)  # noqa: S311
    loop = asyncio.get_running_loop()
    asking: list[asyncio.Task[Answer]] = []
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)
    ) as session:
        due = started = loop.time()
        while (due := due + chance.expovariate(rate)) < started + seconds:
            await asyncio.sleep(due - loop.time())
            asking.append(asyncio.create_task(ask(session, url)))
        return await asyncio.gather(*asking)


async def ask(session: aiohttp.ClientSession, url: str, headers: Mapping[str, str] | None = None) -> Answer:
    """One request, whatever comes of it."""
    asked_at = time.monotonic()
    status, code = 0, ""
    try:
        async with session.post(url, json=BODY, headers=headers) as answer:
            told = await answer.read()
            status = answer.status
        if status >= 400:
            code = _code(told)
    except TimeoutError:
        code = "no answer"
    except aiohttp.ClientError as error:
        code = f"connection broken: {type(error).__name__}"
    return Answer(asked_at, time.monotonic() - asked_at, status, code)


def _code(told: bytes) -> str:
    try:
        return str(orjson.loads(told)["code"])
    except (ValueError, KeyError, TypeError):
        return repr(told[:80])


def percentile(answers: Sequence[Answer], share: float) -> float:
    """Seconds, of those that were served; not a number where none was."""
    served = sorted(each.latency_s for each in answers if each.status == 200)
    return served[min(len(served) - 1, int(share * len(served)))] if served else float("nan")


def counts(answers: Sequence[Answer]) -> dict[str, int]:
    return dict(Counter(each.told for each in answers).most_common())
