# SPDX-License-Identifier: Apache-2.0
"""Generated endpoints of ensembles: of two Python models, and of a Python model before a decoupled one."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from support.odd_repository import add_model
from support.received_events import ReceivedEvent, events_of
from support.serving import COUNT_APP, Server, serving

pytestmark = pytest.mark.integration

TEXT = 'input [ { name: "words" data_type: TYPE_STRING dims: [ 1 ] } ]'
FIRST = """{
  model_name: "texts" model_version: -1
  input_map { key: "one" value: "words" } output_map { key: "one" value: "checked" }
}"""
# Both models get the text; the decoupled one responds with events.
STREAMED = f"""
platform: "ensemble" {TEXT}
output [ {{ name: "event" data_type: TYPE_STRING dims: [ 1 ] }} ]
ensemble_scheduling {{ step [ {FIRST}, {{
  model_name: "count_stream" model_version: -1
  input_map {{ key: "text" value: "checked" }} output_map {{ key: "event" value: "event" }}
}} ] }}
"""
PLAIN = f"""
platform: "ensemble" {TEXT}
output [ {{ name: "note" data_type: TYPE_STRING dims: [ 1 ] }} ]
ensemble_scheduling {{ step [ {FIRST}, {{
  model_name: "hinted" model_version: -1
  input_map {{ key: "note" value: "checked" }} output_map {{ key: "note" value: "note" }}
}} ] }}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("ensembles")
    models = folder / "models"
    for name in ("texts", "hinted"):
        add_model(models, name)
    shutil.copytree(COUNT_APP / "models" / "count_stream", models / "count_stream")
    for name, config in (("plain", PLAIN), ("streamed", STREAMED)):
        (models / name / "1").mkdir(parents=True)
        (models / name / "config.pbtxt").write_text(config)
    with serving("--embedded", folder=folder) as server:
        yield server.wait_until_ready()


@pytest.fixture
async def caller(server: Server) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=server.url, timeout=60) as client:
        yield client


async def until(folder: Path, pattern: str) -> None:
    """Wait until a model has written this file."""

    def wait() -> None:
        while not any(folder.glob(pattern)):
            time.sleep(0.01)  # another process writes it; there is no event for it

    await asyncio.to_thread(wait)


def cancelled(folder: Path) -> list[str]:
    """The requests whose cancellation the model has seen."""
    return [path.name for path in folder.glob("*/left-*")]


def response(event: str) -> ReceivedEvent:
    return ReceivedEvent("response", {"event": event})


async def test_an_ensemble_has_an_endpoint(caller: httpx2.AsyncClient) -> None:
    result = await caller.post("/models/plain/infer", json={"words": "hä🏠"})
    assert (result.status_code, result.json()) == (200, {"note": "hä🏠"})
    refused = await caller.post("/models/plain/infer", json={})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "#/words")


async def test_an_ensemble_with_a_decoupled_step_streams(caller: httpx2.AsyncClient) -> None:
    assert (await caller.get("/models/streamed")).json()["decoupled"] is True
    assert await events_for(caller, "echo a") == [
        response("queued"),
        *[response("progress")] * 3,
        response("completed"),
        ReceivedEvent("completed", {"num_responses": 5}),
    ]


async def test_a_client_that_leaves_ends_only_its_own_request(caller: httpx2.AsyncClient, tmp_path: Path) -> None:
    """Triton does not cancel a step that runs: it ends by itself, and so do the requests of others."""
    leaving, staying = tmp_path / "leaving", tmp_path / "staying"
    leaving.mkdir()
    staying.mkdir()
    other = asyncio.create_task(events_for(caller, f"hold {staying}"))
    await until(staying, "began-*")
    async with caller.stream("POST", "/models/streamed/infer", json={"words": f"hold {leaving}"}) as stream:
        assert await anext(events_of(stream)) == response("queued")
        await until(leaving, "began-*")
    plain = await caller.post("/models/plain/infer", json={"words": "at the same time"})
    assert plain.json() == {"note": "at the same time"}
    (leaving / "go").touch()
    (staying / "go").touch()
    assert (await other)[-1] == ReceivedEvent("completed", {"num_responses": 5})
    assert cancelled(tmp_path) == []


async def events_for(caller: httpx2.AsyncClient, words: str) -> list[Any]:
    async with caller.stream("POST", "/models/streamed/infer", json={"words": words}) as stream:
        assert stream.status_code == 200
        return [event async for event in events_of(stream) if event.name]
