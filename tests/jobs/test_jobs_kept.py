# SPDX-License-Identifier: Apache-2.0
"""Who can see a job, and how long it is stored."""

from pathlib import Path
from typing import Any

import pytest

from fastapi_triton import Settings
from fastapi_triton.jobs import cleanup
from fastapi_triton.jobs.liveness import Executors
from support.jobs_client import Client


def names(settings: Settings, folder: str) -> set[str]:
    return {path.name for path in (Path(settings.jobs_folder) / folder).iterdir()}


async def test_other_callers_cannot_see_a_job(client: Client) -> None:
    job = await client.accepted()
    await client.finished(job)
    client.caller = "key:bob"
    responses = [await client.get(f"{job}{rest}") for rest in ("", "/events", "/result")]
    responses.append(await client.http.delete(job))
    assert {(each.status_code, each.json()["code"]) for each in responses} == {(404, "job_not_found")}
    assert (await client.get("/jobs")).json() == {"jobs": []}


@pytest.mark.parametrize("name", ["..", "a" * 32, "%00" * 32, "a" * 5000, "%C3%A4" * 32])
async def test_a_malformed_job_id_is_not_found(client: Client, name: str) -> None:
    await client.accepted()
    response = await client.get(f"/jobs/{name}/result")
    assert response.status_code == 404


async def test_a_caller_can_list_its_own_jobs(client: Client) -> None:
    mine = [await client.accepted() for _ in range(2)]
    listed = (await client.get("/jobs")).json()["jobs"]
    assert sorted(each["urls"]["job"] for each in listed) == sorted(mine)


async def test_without_api_keys_everyone_with_the_id_can_see_the_job(client: Client) -> None:
    client.caller = "address:10.0.0.1"
    job = await client.accepted()
    client.caller = "address:10.0.0.2"
    assert (await client.finished(job))["status"] == "completed"
    response = await client.get("/jobs")
    assert (response.status_code, response.json()["code"]) == (403, "not_listed")


async def test_a_job_expires_and_its_key_can_make_a_new_job(
    running: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleanup, "SWEEP_S", 0.0)
    monkeypatch.setattr(cleanup, "TAKE_OVER_S", 0.05)
    key = {"Idempotency-Key": "k"}
    async with running(settings) as client:
        job = await client.accepted(key)
        first = await client.finished(job)
    async with running(settings.model_copy(update={"jobs_keep_s": 0.01})) as client:
        while (response := await client.get(job)).status_code == 200:
            pass
        assert (response.status_code, response.json()["code"]) == (410, "job_expired")
    assert names(settings, "files") == set()
    async with running(settings) as client:
        assert await client.accepted(key, prompt="another house") == job
        assert (await client.finished(job))["created"] > first["created"]


def test_a_dead_process_is_recognised_by_its_released_lock(tmp_path: Path) -> None:
    one, other = Executors(tmp_path), Executors(tmp_path)
    one.start()
    other.start()
    assert one.dead() == []
    other.stop()
    assert one.dead() == [other.id]
    one.forget(other.id)
    assert one.dead() == []
    one.stop()
