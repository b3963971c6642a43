# SPDX-License-Identifier: Apache-2.0
"""Clients that disconnect while the model runs their requests: how many requests are cancelled, and what leaks."""

import asyncio
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import aiohttp
import orjson

from benchmarks.overload.embedded_frontend import Frontend, ServerState

# Every client disconnects earlier.
WORK_S = 60.0
# Time between the start in the model and the disconnect.
EARLIEST_S, LATEST_S = 0.0, 0.5
WARM_UP = 1000
# Memory is read after each part.
NUM_PARTS = 4
# Time limit for the return to the state before.
SETTLE_S = 20.0


@dataclass(frozen=True, slots=True)
class Disconnects:
    """Disconnected requests, the model's counts, and the state of the frontend before and after."""

    num_requests: int
    begun: int
    cancelled: int
    completed: int
    before: ServerState
    after: ServerState
    settled_s: float
    rss_mb: Sequence[float]  # after each part


async def measure(frontend: Frontend, *, num_requests: int, num_at_once: int, seed: int) -> Disconnects:
    rng = random.Random(seed)  # noqa: S311
    await _disconnect_all(frontend, iter(range(WARM_UP)), num_at_once, rng)
    await _wait_until_idle(frontend)
    before, counted = await frontend.state(), await _counts(frontend)
    rss_mb = []
    for part in range(NUM_PARTS):
        numbers = range(part * num_requests // NUM_PARTS, (part + 1) * num_requests // NUM_PARTS)
        await _disconnect_all(frontend, iter(numbers), num_at_once, rng)
        rss_mb.append((await frontend.state()).rss_mb)
    settled_s = await _wait_until_idle(frontend)
    now = await _counts(frontend)
    return Disconnects(
        num_requests,
        begun=now["begun"] - counted["begun"],
        cancelled=now["cancelled"] - counted["cancelled"],
        completed=now["completed"] - counted["completed"],
        before=before,
        after=await frontend.state(),
        settled_s=settled_s,
        rss_mb=rss_mb,
    )


async def _disconnect_all(frontend: Frontend, numbers: Iterator[int], num_at_once: int, rng: random.Random) -> None:
    async def run_in_turn() -> None:
        for number in numbers:
            await _disconnect(frontend.port, rng.uniform(EARLIEST_S, LATEST_S), reads_events=number % 2 == 0)

    await asyncio.gather(*(run_in_turn() for _ in range(num_at_once)))


async def _disconnect(port: int, after_s: float, *, reads_events: bool) -> None:
    """Half of the clients read events and see when the model starts. The others request JSON and wait a fixed time."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = orjson.dumps({"seconds": WORK_S})
    accept = "text/event-stream" if reads_events else "application/json"
    head = f"POST /wait/events HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    if reads_events:
        await reader.readuntil(b"event: queued")
    else:
        await asyncio.sleep(LATEST_S)
    await asyncio.sleep(after_s)
    writer.transport.abort()


async def _counts(frontend: Frontend) -> dict[str, int]:
    """The model's counts, requested through `/v2`, because an endpoint caches the response to `describe`."""
    async with aiohttp.ClientSession() as session:
        url = f"{frontend.url}/v2/models/wait_stream/generate_stream"
        async with session.post(url, json={"describe": True}) as response:
            event = (await response.text()).removeprefix("data:").strip()
    counts: dict[str, int] = orjson.loads(orjson.loads(event)["info"])
    return counts


async def _wait_until_idle(frontend: Frontend) -> float:
    """Wait until nothing runs any more. Returns the seconds that this took."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while loop.time() < began + SETTLE_S:
        state, counts = await frontend.state(), await _counts(frontend)
        is_model_idle = counts["begun"] == counts["cancelled"] + counts["completed"] + counts["late"]
        if is_model_idle and state.in_flight == state.waiting == 0:
            break
        await asyncio.sleep(0.1)
    return loop.time() - began


def table(disconnects: Disconnects) -> list[str]:
    before, after = disconnects.before, disconnects.after
    share = disconnects.cancelled / max(1, disconnects.begun)
    return [
        f"clients that disconnected      {disconnects.num_requests:,}; "
        f"the model had started {disconnects.begun:,} of their requests",
        f"cancelled in the model         {disconnects.cancelled:,}, {share:.2%} of those",
        f"completed                      {disconnects.completed:,}",
        f"everything idle again after    {disconnects.settled_s:.1f} s",
        *(
            f"{name:30} {getattr(before, name):.6g} before, {getattr(after, name):.6g} after"
            for name in ("in_flight", "waiting", "tasks", "threads", "fds", "rss_mb")
        ),
        f"rss_mb during the run          {', '.join(f'{each:.1f}' for each in disconnects.rss_mb)}",
    ]
