# SPDX-License-Identifier: Apache-2.0
"""Overload, deadlines and disconnects on a real Triton, with the app and models of `benchmarks/overload`."""

import asyncio
import json
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from support.paths import ROOT
from support.received_events import events_of
from support.serving import Server, serving

pytestmark = pytest.mark.integration

MAX_IN_FLIGHT, MAX_WAITING = 8, 4
LONG, SHORT = {"seconds": 60.0}, {"seconds": 0.1}
PLAIN, CANCELLABLE = "/wait", "/wait/events"


@pytest.fixture(scope="module")
def overloaded_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("overload") / "app"
    shutil.copytree(ROOT / "benchmarks" / "overload" / "app", folder)
    (folder / "models" / "queued" / "1").mkdir(parents=True)
    for name, where in (("config.pbtxt", "."), ("model.py", "1")):
        shutil.copy(Path(__file__).parent / "queued" / name, folder / "models" / "queued" / where)
    limits = ("--max-in-flight", str(MAX_IN_FLIGHT), "--max-waiting", str(MAX_WAITING))
    with serving("--embedded", *limits, folder=folder) as server:
        yield server.wait_until_ready()


@pytest.fixture
async def client(overloaded_server: Server) -> AsyncIterator[httpx2.AsyncClient]:
    limits = httpx2.Limits(max_connections=100)
    async with httpx2.AsyncClient(base_url=overloaded_server.url, timeout=120, limits=limits) as client:
        yield client


async def state(client: httpx2.AsyncClient) -> dict[str, int]:
    counters: dict[str, int] = (await client.get("/state")).json()
    return counters


async def until(client: httpx2.AsyncClient, **wanted: int) -> None:
    while wanted.items() - (await state(client)).items():  # noqa: ASYNC110 (another process counts)
        await asyncio.sleep(0.01)


async def counts(client: httpx2.AsyncClient) -> dict[str, int]:
    """The counters of the stream model."""
    response = await client.post("/v2/models/wait_stream/generate_stream", json={"describe": True})
    counters: dict[str, int] = json.loads(json.loads(response.text.removeprefix("data:"))["info"])
    return counters


async def until_cancelled(client: httpx2.AsyncClient, number: int) -> dict[str, int]:
    """The counters of the stream model, once it has cancelled this many requests."""
    while (now := await counts(client))["cancelled"] + now["late"] < number:  # noqa: ASYNC110 (another process counts)
        await asyncio.sleep(0.01)
    return now


async def test_requests_of_a_burst_get_a_result_or_overload(
    client: httpx2.AsyncClient,
) -> None:
    burst = [asyncio.create_task(client.post(PLAIN, json={"seconds": 2.0})) for _ in range(60)]
    responses = await asyncio.gather(*burst)
    assert Counter(each.status_code for each in responses) == {200: MAX_IN_FLIGHT + MAX_WAITING, 503: 48}
    for each in responses:
        if each.status_code == 503:
            assert each.json()["code"] == "overloaded"
            assert int(each.headers["retry-after"]) >= 1
    assert (await state(client))["in_flight"] == 0
    # The service time is known now: a request that cannot finish in time does not start.
    running = [asyncio.create_task(client.post(PLAIN, json={"seconds": 1.0})) for _ in range(MAX_IN_FLIGHT)]
    await until(client, in_flight=MAX_IN_FLIGHT)
    rejected = await client.post(PLAIN, json=SHORT, headers={"X-Request-Timeout": "1"})
    assert (rejected.status_code, rejected.json()["code"]) == (503, "deadline_out_of_reach")
    assert [(await each).status_code for each in running] == [200] * MAX_IN_FLIGHT


async def test_disconnects_cancel_requests_in_the_model_and_free_all_slots(client: httpx2.AsyncClient) -> None:
    before = await counts(client)

    async def disconnect(number: int) -> None:
        accept = {"Accept": "text/event-stream"}
        async with client.stream("POST", CANCELLABLE, json=LONG, headers=accept) as response:
            events = events_of(response)
            for _ in range(1 + number % 3):
                await anext(events)

    for _ in range(5):
        await asyncio.gather(*(disconnect(number) for number in range(MAX_IN_FLIGHT)))
        await until(client, in_flight=0, waiting=0)  # or the queue of the next round could be full
    waiting = asyncio.create_task(client.post(CANCELLABLE, json=LONG))
    await until(client, in_flight=1, waiting=0)
    waiting.cancel()
    await until(client, in_flight=0, waiting=0)
    total = 5 * MAX_IN_FLIGHT + 1
    now = await until_cancelled(client, before["cancelled"] + before["late"] + total)
    assert (now["begun"] - before["begun"], now["completed"]) == (total, before["completed"])


async def test_deadline_cancels_a_stream_and_a_plain_request_keeps_its_slot_until_triton_is_done(
    client: httpx2.AsyncClient,
) -> None:
    before = await counts(client)
    late = await client.post(CANCELLABLE, json=LONG, headers={"X-Request-Timeout": "0.3"})
    assert (late.status_code, late.json()["code"]) == (504, "deadline_exceeded")
    await until_cancelled(client, before["cancelled"] + before["late"] + 1)
    late = await client.post(PLAIN, json={"seconds": 2.0}, headers={"X-Request-Timeout": "0.5"})
    assert (late.status_code, late.json()["code"]) == (504, "deadline_exceeded")
    assert (await state(client))["in_flight"] == 1
    await until(client, in_flight=0)
    assert (await client.post(PLAIN, json=SHORT)).status_code == 200


async def test_triton_drops_expired_requests_from_its_queue(client: httpx2.AsyncClient) -> None:
    async def send(seconds: float, **headers: str) -> tuple[int, Any]:
        response = await client.post("/models/queued/infer", json={"seconds": seconds}, headers=headers)
        return response.status_code, response.json()

    assert await send(0.0) == (200, {"num_executed": 1})
    running = asyncio.create_task(send(2.0))
    await until(client, in_flight=1)
    status, problem = await send(0.0, **{"X-Request-Timeout": "0.5"})
    assert (status, problem["code"]) == (504, "deadline_exceeded")
    assert await running == (200, {"num_executed": 2})
    await until(client, in_flight=0)  # Triton has responded to the request that it dropped, too
    assert await send(0.0) == (200, {"num_executed": 3})
