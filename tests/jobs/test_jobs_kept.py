# SPDX-License-Identifier: Apache-2.0
"""Whose a job is, and how long it is kept."""

from pathlib import Path
from typing import Any

import pytest

from fastapi_triton import Settings
from fastapi_triton.jobs import cleanup
from fastapi_triton.jobs.liveness import Executors
from support.jobs_client import Client


def names(settings: Settings, folder: str) -> set[str]:
    return {path.name for path in (Path(settings.jobs_folder) / folder).iterdir()}


async def test_others_never_see_a_job(client: Client) -> None:
    job = await client.accepted()
    await client.over(job)
    client.caller = "key:bob"
    answers = [await client.get(f"{job}{rest}") for rest in ("", "/events", "/result")]
    answers.append(await client.http.delete(job))
    assert {(each.status_code, each.json()["code"]) for each in answers} == {(404, "job_not_found")}
    assert (await client.get("/jobs")).json() == {"jobs": []}


@pytest.mark.parametrize("name", ["..", "a" * 32, "%00" * 32, "a" * 5000, "%C3%A4" * 32])
async def test_what_is_no_jobs_id_is_not_found(client: Client, name: str) -> None:
    await client.accepted()
    answer = await client.get(f"/jobs/{name}/result")
    assert answer.status_code == 404


async def test_a_caller_is_told_its_own_jobs_the_newest_first(client: Client) -> None:
    mine = [await client.accepted() for _ in range(2)]
    listed = (await client.get("/jobs")).json()["jobs"]
    assert sorted(each["urls"]["job"] for each in listed) == sorted(mine)


async def test_without_keys_it_is_the_id_that_is_asked_for(client: Client) -> None:
    client.caller = "address:10.0.0.1"
    job = await client.accepted()
    client.caller = "address:10.0.0.2"
    assert (await client.over(job))["status"] == "completed"
    answer = await client.get("/jobs")
    assert (answer.status_code, answer.json()["code"]) == (403, "not_listed")


async def test_a_job_expires_and_its_key_makes_a_new_one(
    running: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleanup, "SWEEP_S", 0.0)
    monkeypatch.setattr(cleanup, "TAKE_OVER_S", 0.05)
    key = {"Idempotency-Key": "k"}
    async with running(settings) as client:
        job = await client.accepted(key)
        first = await client.over(job)
    async with running(settings.model_copy(update={"jobs_keep_s": 0.01})) as client:
        while (answer := await client.get(job)).status_code == 200:
            pass
        assert (answer.status_code, answer.json()["code"]) == (410, "job_expired")
    assert names(settings, "files") == set()
    async with running(settings) as client:
        assert await client.accepted(key, prompt="another house") == job
        assert (await client.over(job))["created"] > first["created"]


def test_the_dead_are_told_from_the_living(tmp_path: Path) -> None:
    one, other = Executors(tmp_path), Executors(tmp_path)
    one.start()
    other.start()
    assert one.dead() == []
    other.stop()
    assert one.dead() == [other.id]
    one.forget(other.id)
    assert one.dead() == []
    one.stop()
