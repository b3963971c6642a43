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
class Response:
    """One response. Status 0 means that the connection broke or no response came."""

    sent_at: float
    latency_s: float
    status: int
    code: str = ""

    @property
    def outcome(self) -> str:
        return f"{self.status} {self.code}".strip() if self.status else self.code


async def poisson(url: str, *, rate: float, seconds: float, seed: int) -> list[Response]:
    """Send `rate` requests a second on average, and wait for all responses."""
    random_source = random.Random(seed)  # noqa: S311
    loop = asyncio.get_running_loop()
    sending: list[asyncio.Task[Response]] = []
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)
    ) as session:
        due = started = loop.time()
        while (due := due + random_source.expovariate(rate)) < started + seconds:
            await asyncio.sleep(due - loop.time())
            sending.append(asyncio.create_task(send(session, url)))
        return await asyncio.gather(*sending)


async def send(session: aiohttp.ClientSession, url: str, headers: Mapping[str, str] | None = None) -> Response:
    """Send one request. Errors become responses too."""
    sent_at = time.monotonic()
    status, code = 0, ""
    try:
        async with session.post(url, json=BODY, headers=headers) as response:
            body = await response.read()
            status = response.status
        if status >= 400:
            code = _code(body)
    except TimeoutError:
        code = "no response"
    except aiohttp.ClientError as error:
        code = f"connection broken: {type(error).__name__}"
    return Response(sent_at, time.monotonic() - sent_at, status, code)


def _code(body: bytes) -> str:
    try:
        return str(orjson.loads(body)["code"])
    except (ValueError, KeyError, TypeError):
        return repr(body[:80])


def percentile(responses: Sequence[Response], share: float) -> float:
    """A percentile of the latencies of successful requests, in seconds; NaN if there are none."""
    served = sorted(each.latency_s for each in responses if each.status == 200)
    return served[min(len(served) - 1, int(share * len(served)))] if served else float("nan")


def counts(responses: Sequence[Response]) -> dict[str, int]:
    return dict(Counter(each.outcome for each in responses).most_common())
