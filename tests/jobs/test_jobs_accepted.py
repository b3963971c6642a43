# SPDX-License-Identifier: Apache-2.0
"""What becomes a job, and what is refused before."""

import asyncio
import errno
import os
import stat
from pathlib import Path
from typing import Any

import httpx2
import pytest

from fastapi_triton import Settings
from fastapi_triton.core.errors import InvalidRequestError
from fastapi_triton.testing import FakeTriton
from support.jobs_client import Client
from support.scribble_app import PATH
from support.scripted_stream_model import ScriptedStreamModel

UUID = "8e03978e-40d5-43e8-bc93-6894a57f9324"


def kept(settings: Settings) -> list[Path]:
    """The files of all jobs."""
    return sorted(path for path in (Path(settings.jobs_folder) / "files").rglob("*") if path.is_file())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_a_request_that_prefers_not_to_wait_is_told_where_its_job_is(client: Client) -> None:
    answer = await client.ask()
    assert answer.status_code == 202
    assert answer.headers["preference-applied"] == "respond-async"
    told = answer.json()
    assert answer.headers["location"] == told["urls"]["job"] == f"/jobs/{told['id']}"
    assert told["status"] == "queued"
    assert told["endpoint"] == PATH
    assert (await client.over(told["urls"]["job"]))["status"] == "completed"


@pytest.mark.parametrize(
    "preference", ["respond-async, wait=10", "wait=1, Respond-Async", "handling=lenient,respond-async"]
)
async def test_the_preference_is_found_among_others(client: Client, preference: str) -> None:
    assert (await client.ask({"Prefer": preference})).status_code == 202


async def test_another_preference_is_answered_at_once(client: Client) -> None:
    answer = await client.ask({"Prefer": "wait=10"})
    assert answer.status_code == 200
    assert "preference-applied" not in answer.headers


async def test_a_request_that_does_not_fit_is_refused_at_once_and_leaves_nothing(
    client: Client, settings: Settings
) -> None:
    answer = await client.ask(prompt=None, promt="a house")
    assert answer.status_code == 422
    assert {each["pointer"] for each in answer.json()["errors"]} == {"#/prompt", "#/promt"}
    assert kept(settings) == []


async def test_without_a_folder_the_preference_is_ignored_and_there_are_no_jobs(
    running: Any, settings: Settings
) -> None:
    async with running(settings.model_copy(update={"jobs_folder": ""})) as client:
        answer = await client.ask()
        assert answer.status_code == 200
        assert "preference-applied" not in answer.headers
        assert (await client.get("/jobs/x")).json()["code"] == "not_found"


async def test_the_same_key_and_request_are_one_job_however_they_are_written(
    client: Client, triton: FakeTriton
) -> None:
    first = await client.accepted({"Idempotency-Key": UUID})
    await client.over(first)
    assert await client.accepted({"Idempotency-Key": f'"{UUID}"'}) == first
    assert len(triton.streams) == 1


async def test_a_key_is_for_one_request_and_one_caller(client: Client) -> None:
    first = await client.accepted({"Idempotency-Key": UUID})
    answer = await client.ask({"Idempotency-Key": UUID}, prompt="another house")
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    client.caller = "key:bob"
    assert await client.accepted({"Idempotency-Key": UUID}, prompt="another house") != first


async def test_a_repeated_request_that_waits_is_run_once_and_answered_alike(client: Client, triton: FakeTriton) -> None:
    async def ask(accept: str) -> httpx2.Response:
        headers = {"Idempotency-Key": UUID, "Accept": accept}
        return await client.http.post(PATH, json=client.body(output_format="png"), headers=headers)

    first, second = await asyncio.gather(ask("application/json"), ask("application/json"))
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json() == second.json()
    assert (await ask("image/png")).headers["x-seed"] == str(first.json()["seed"])
    assert "event: completed" in (await ask("text/event-stream")).text
    assert len(triton.streams) == 1


async def test_a_repeated_request_that_failed_is_told_the_same_again(
    client: Client, twin: ScriptedStreamModel, triton: FakeTriton
) -> None:
    twin.fails_at_once = InvalidRequestError("No such scheduler.", code="unknown_scheduler")
    for _ in range(2):
        answer = await client.http.post(PATH, json=client.body(), headers={"Idempotency-Key": UUID})
        assert (answer.status_code, answer.json()["code"]) == (422, "unknown_scheduler")
    assert len(triton.streams) == 1


@pytest.mark.parametrize("key", ["", "x" * 256, '"open', "sch\xf6n"])
async def test_a_key_of_a_wrong_form_is_refused(client: Client, key: str) -> None:
    answer = await client.http.post(
        PATH, json=client.body(), headers=[(b"prefer", b"respond-async"), (b"idempotency-key", key.encode("latin-1"))]
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_idempotency_key")


async def test_no_caller_and_not_all_of_them_together_can_have_more_jobs_than_the_settings_say(
    running: Any, settings: Settings, twin: ScriptedStreamModel
) -> None:
    twin.go_on.clear()
    limits = {"jobs_max_per_caller": 2, "jobs_max_waiting": 2, "jobs_max_running": 1}
    async with running(settings.model_copy(update=limits)) as client:
        first, _ = [await client.accepted() for _ in range(2)]
        answer = await client.ask()
        assert (answer.status_code, answer.json()["code"]) == (429, "too_many_jobs")
        assert int(answer.headers["retry-after"]) >= 1
        client.caller = "key:bob"
        await client.accepted()
        answer = await client.ask()
        assert (answer.status_code, answer.json()["code"]) == (503, "too_many_jobs")
        twin.go_on.set()
        client.caller = "key:alice"
        await client.over(first)
        await client.accepted()


async def test_a_full_disk_is_told_in_words_and_leaves_no_half_of_a_job(
    client: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.over(await client.accepted())

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = kept(settings)
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full)
        answer = await client.ask()
    assert (answer.status_code, answer.json()["code"]) == (503, "jobs_unavailable")
    assert "No space left on device" in answer.json()["detail"]
    assert kept(settings) == before
    await client.over(await client.accepted())


async def test_nobody_else_on_the_machine_can_read_the_jobs(client: Client, settings: Settings) -> None:
    await client.over(await client.accepted())
    found = kept(settings)
    names = {path.name for path in found}
    assert "result.json" in names
    assert any(name.startswith("request-") for name in names)
    assert {mode(path) for path in found} == {0o600}
    assert mode(Path(settings.jobs_folder)) == 0o700


async def test_the_openapi_document_tells_of_jobs_where_there_are_any(client: Client) -> None:
    document = (await client.get("/openapi.json")).json()
    operation = document["paths"][PATH]["post"]
    told = {each["name"] for each in operation["parameters"]}
    assert {"Prefer", "Idempotency-Key", "Webhook-URL"} <= told
    assert operation["responses"]["202"]["content"]["application/json"]["schema"]["$ref"].endswith("/JobView")
    assert "runs" in document["components"]["schemas"]["JobView"]["properties"]
    assert {path for path in document["paths"] if path.startswith("/jobs")} == {
        "/jobs",
        "/jobs/{job_id}",
        "/jobs/{job_id}/events",
        "/jobs/{job_id}/result",
    }
