# SPDX-License-Identifier: Apache-2.0
"""Overload, deadlines and leaving callers on a real Triton: app and models are those of `benchmarks/overload`."""

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
PLAIN, TOLD = "/wait", "/wait/events"


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
async def caller(overloaded_server: Server) -> AsyncIterator[httpx2.AsyncClient]:
    limits = httpx2.Limits(max_connections=100)
    async with httpx2.AsyncClient(base_url=overloaded_server.url, timeout=120, limits=limits) as client:
        yield client


async def state(caller: httpx2.AsyncClient) -> dict[str, int]:
    told: dict[str, int] = (await caller.get("/state")).json()
    return told


async def until(caller: httpx2.AsyncClient, **wanted: int) -> None:
    while wanted.items() - (await state(caller)).items():  # noqa: ASYNC110 (another process counts)
        await asyncio.sleep(0.01)


async def counts(caller: httpx2.AsyncClient) -> dict[str, int]:
    """What the streaming model has counted."""
    answer = await caller.post("/v2/models/wait_stream/generate_stream", json={"describe": True})
    told: dict[str, int] = json.loads(json.loads(answer.text.removeprefix("data:"))["info"])
    return told


async def stopped(caller: httpx2.AsyncClient, number: int) -> dict[str, int]:
    """The streaming model's counts, once it has stopped so many before their end."""
    while (now := await counts(caller))["cancelled"] + now["late"] < number:  # noqa: ASYNC110 (another process counts)
        await asyncio.sleep(0.01)
    return now


async def test_every_request_of_a_burst_gets_one_answer_and_no_more_is_begun_than_may_be(
    caller: httpx2.AsyncClient,
) -> None:
    burst = [asyncio.create_task(caller.post(PLAIN, json={"seconds": 2.0})) for _ in range(60)]
    answers = await asyncio.gather(*burst)
    assert Counter(each.status_code for each in answers) == {200: MAX_IN_FLIGHT + MAX_WAITING, 503: 48}
    for each in answers:
        if each.status_code == 503:
            assert each.json()["code"] == "overloaded"
            assert int(each.headers["retry-after"]) >= 1
    assert (await state(caller))["in_flight"] == 0
    # Now it is known how long one takes: what cannot be done in time is not begun.
    running = [asyncio.create_task(caller.post(PLAIN, json={"seconds": 1.0})) for _ in range(MAX_IN_FLIGHT)]
    await until(caller, in_flight=MAX_IN_FLIGHT)
    refused = await caller.post(PLAIN, json=SHORT, headers={"X-Request-Timeout": "1"})
    assert (refused.status_code, refused.json()["code"]) == (503, "deadline_out_of_reach")
    assert [(await each).status_code for each in running] == [200] * MAX_IN_FLIGHT


async def test_callers_who_leave_are_noticed_by_the_model_and_nothing_is_left(caller: httpx2.AsyncClient) -> None:
    before = await counts(caller)

    async def leave(number: int) -> None:
        accept = {"Accept": "text/event-stream"}
        async with caller.stream("POST", TOLD, json=LONG, headers=accept) as answer:
            events = events_of(answer)
            for _ in range(1 + number % 3):
                await anext(events)

    for _ in range(5):
        await asyncio.gather(*(leave(number) for number in range(MAX_IN_FLIGHT)))
    waiting = asyncio.create_task(caller.post(TOLD, json=LONG))
    await until(caller, in_flight=1, waiting=0)
    waiting.cancel()
    await until(caller, in_flight=0, waiting=0)
    total = 5 * MAX_IN_FLIGHT + 1
    now = await stopped(caller, before["cancelled"] + before["late"] + total)
    assert (now["begun"] - before["begun"], now["completed"]) == (total, before["completed"])


async def test_a_deadline_stops_the_model_and_a_plain_infer_keeps_its_place_until_triton_is_done(
    caller: httpx2.AsyncClient,
) -> None:
    before = await counts(caller)
    late = await caller.post(TOLD, json=LONG, headers={"X-Request-Timeout": "0.3"})
    assert (late.status_code, late.json()["code"]) == (504, "deadline_exceeded")
    await stopped(caller, before["cancelled"] + before["late"] + 1)
    late = await caller.post(PLAIN, json={"seconds": 2.0}, headers={"X-Request-Timeout": "0.5"})
    assert (late.status_code, late.json()["code"]) == (504, "deadline_exceeded")
    assert (await state(caller))["in_flight"] == 1
    await until(caller, in_flight=0)
    assert (await caller.post(PLAIN, json=SHORT)).status_code == 200


async def test_triton_drops_from_its_queue_what_nobody_waits_for_any_more(caller: httpx2.AsyncClient) -> None:
    async def ask(seconds: float, **headers: str) -> tuple[int, Any]:
        answer = await caller.post("/models/queued/infer", json={"seconds": seconds}, headers=headers)
        return answer.status_code, answer.json()

    assert await ask(0.0) == (200, {"num_executed": 1})
    running = asyncio.create_task(ask(2.0))
    await until(caller, in_flight=1)
    status, told = await ask(0.0, **{"X-Request-Timeout": "0.5"})
    assert (status, told["code"]) == (504, "deadline_exceeded")
    assert await running == (200, {"num_executed": 2})
    await until(caller, in_flight=0)  # Triton has answered the one that it dropped, too
    assert await ask(0.0) == (200, {"num_executed": 3})
