# SPDX-License-Identifier: Apache-2.0
"""A job returns the result of the request it was accepted for, even if a process died meanwhile. Requests that cannot
run are rejected before a job is created, as the endpoint rejects them."""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from fastapi_triton import Settings
from fastapi_triton.core.errors import OverloadedError
from fastapi_triton.jobs import dbos_queue, submission
from fastapi_triton.jobs.dbos_queue import DurableQueue
from fastapi_triton.jobs.interfaces import JobRequest
from fastapi_triton.jobs.store import JobFiles
from fastapi_triton.testing import FakeTriton
from support.picture_app import EVERYTHING, client_of, triton_of
from support.scribble_app import MODEL, PATH, base64_picture
from support.scripted_stream_model import STREAM_MODEL, ScriptedStreamModel, app_of

KEY = {"Idempotency-Key": "the-key"}
ASYNC = {"Prefer": "respond-async"}


@pytest.fixture(autouse=True)
def jobs_are_seen_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dbos_queue, "_POLL_S", 0.02)


@pytest.fixture
async def triton() -> FakeTriton:
    return triton_of(ScriptedStreamModel())


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(jobs_folder=str(tmp_path / "jobs"), generate=True, watch_interval_s=3600, max_in_flight=4)


@pytest.fixture
async def client(triton: FakeTriton, settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    async with asyncio.timeout(60), client_of(app_of(triton, settings)) as each:
        yield each


class DiedError(Exception):
    """Simulates the death of the process: nothing catches it and nothing is cleaned up."""


@pytest.fixture
def dies_before_the_job_is_added() -> Callable[[], Any]:
    @asynccontextmanager
    async def dying(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
        async def add(*_: Any, **__: Any) -> None:
            raise DiedError

        with monkeypatch.context() as broken:
            broken.setattr(DurableQueue, "add", add)
            yield

    return dying


def body(**changes: Any) -> dict[str, Any]:
    return {"prompt": "from A", "image": base64_picture(), **changes}


async def prompt_of(response: httpx2.Response) -> str:
    assert response.status_code == 200, response.text
    prompt: str = response.json()["info"]["prompt"]
    return prompt


async def test_key_of_an_unfinished_request_can_be_used_with_another_body(
    client: httpx2.AsyncClient, dies_before_the_job_is_added: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with dies_before_the_job_is_added(monkeypatch):
        assert (await client.post(PATH, json=body(), headers=KEY)).status_code == 500
    assert await prompt_of(await client.post(PATH, json=body(prompt="from B"), headers=KEY)) == "from B"
    assert await prompt_of(await client.post(PATH, json=body(prompt="from B"), headers=KEY)) == "from B"
    reused = await client.post(PATH, json=body(), headers=KEY)
    assert (reused.status_code, reused.json()["code"]) == (422, "idempotency_key_reused")


async def test_repeating_an_unfinished_request_runs_it(
    client: httpx2.AsyncClient,
    triton: FakeTriton,
    dies_before_the_job_is_added: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with dies_before_the_job_is_added(monkeypatch):
        assert (await client.post(PATH, json=body(), headers=KEY)).status_code == 500
    first = await client.post(PATH, json=body(), headers=KEY)
    again = await client.post(PATH, json=body(), headers=KEY)
    assert first.json() == again.json()
    assert len([each for each in triton.streams if each.model == STREAM_MODEL]) <= 2  # the picture and the description


async def test_job_whose_submission_failed_halfway_keeps_its_request(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = DurableQueue.add

    async def add(self: DurableQueue, *arguments: Any, **options: Any) -> None:
        await added(self, *arguments, **options)
        raise OverloadedError("the database confirmed too late", code="jobs_unavailable")

    with monkeypatch.context() as broken:
        broken.setattr(DurableQueue, "add", add)
        response = await client.post(PATH, json=body(), headers=KEY)
        assert (response.status_code, response.json()["code"]) == (503, "jobs_unavailable")
    assert await prompt_of(await client.post(PATH, json=body(), headers=KEY)) == "from A"


def test_requests_of_one_id_are_stored_by_fingerprint_and_not_overwritten(tmp_path: Path) -> None:
    files = JobFiles(tmp_path / "jobs")
    files.prepare()
    files.keep_request("id", "a" * 64, b"A")
    files.keep_request("id", "b" * 64, b"B")
    files.keep_request("id", "a" * 64, b"A, with another seed")
    assert (files.request("id", "a" * 64), files.request("id", "b" * 64)) == (b"A", b"B")
    assert files.request("id", "c" * 64) is None
    assert len(list((tmp_path / "jobs" / "files" / "id").iterdir())) == 2  # no temporary file


def test_request_stored_by_an_earlier_version_is_found(tmp_path: Path) -> None:
    files = JobFiles(tmp_path / "jobs")
    files.prepare()
    folder = tmp_path / "jobs" / "files" / "id"
    folder.mkdir()
    (folder / "request.json").write_bytes(b"old")
    assert files.request("id", "a" * 64) == b"old"


def test_fingerprints_differ_for_numbers_that_json_lacks() -> None:
    odd = [math.nan, math.inf, -math.inf, None, 2**70, -0.0, 0, 0.0, False, "NaN", 2**63, 1e400 * 0]
    found = {submission._fingerprint(JobRequest("/path", "", {"x": each}, b"")) for each in odd}
    assert len(found) == len(odd) - 1  # NaN is there twice


# ---- requests are checked before a job is created


@pytest.fixture(params=[PATH, f"/models/{MODEL}/infer"])
def path(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("headers", [ASYNC, KEY, {}], ids=["async", "key", "plain"])
async def test_number_out_of_range_creates_no_job(
    client: httpx2.AsyncClient, settings: Settings, headers: dict[str, str], path: str
) -> None:
    await client.get("/health/ready")
    for changes in (
        {"seed": 10**30},
        {"seed": 2**63},
        {"num_inference_steps": 2**31},
        {"seed": 10**4000},
    ):
        response = await client.post(path, json=body(**changes), headers=headers)
        assert response.status_code == 422, response.text
        problems = {(each["pointer"], each["code"]) for each in response.json()["errors"]}
        assert (f"#/{next(iter(changes))}", "out_of_range") in problems
    assert not [*(Path(settings.jobs_folder) / "files").glob("*")]


async def test_largest_seed_creates_a_job(client: httpx2.AsyncClient) -> None:
    response = await client.post(PATH, json=body(seed=2**63 - 1), headers=KEY)
    assert (response.status_code, response.json()["seed"]) == (200, 2**63 - 1)


async def test_jobs_of_generated_endpoints_keep_every_value(client: httpx2.AsyncClient) -> None:
    sent = {"INT64": [2**63 - 1], "FP64": ["NaN", -0.0, 5e-324], "BYTES": ["a\0", {"base64": "/w=="}], "BOOL": [True]}
    response = await client.post(f"/models/{EVERYTHING}/infer", json=sent, headers=KEY)
    assert response.json() == sent
    assert json.dumps(response.json()["FP64"]) == '["NaN", -0.0, 5e-324]'
