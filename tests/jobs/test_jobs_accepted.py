# SPDX-License-Identifier: Apache-2.0
"""Which requests become jobs, and which are rejected before."""

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


def stored_files(settings: Settings) -> list[Path]:
    """The files of all jobs."""
    return sorted(path for path in (Path(settings.jobs_folder) / "files").rglob("*") if path.is_file())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_respond_async_returns_202_with_the_url_of_the_job(client: Client) -> None:
    response = await client.post()
    assert response.status_code == 202
    assert response.headers["preference-applied"] == "respond-async"
    state = response.json()
    assert response.headers["location"] == state["urls"]["job"] == f"/jobs/{state['id']}"
    assert state["status"] == "queued"
    assert state["endpoint"] == PATH
    assert (await client.finished(state["urls"]["job"]))["status"] == "completed"


@pytest.mark.parametrize(
    "preference", ["respond-async, wait=10", "wait=1, Respond-Async", "handling=lenient,respond-async"]
)
async def test_respond_async_is_found_among_other_preferences(client: Client, preference: str) -> None:
    assert (await client.post({"Prefer": preference})).status_code == 202


async def test_other_preferences_make_no_job(client: Client) -> None:
    response = await client.post({"Prefer": "wait=10"})
    assert response.status_code == 200
    assert "preference-applied" not in response.headers


async def test_an_invalid_request_is_rejected_at_once_and_stores_nothing(client: Client, settings: Settings) -> None:
    response = await client.post(prompt=None, promt="a house")
    assert response.status_code == 422
    assert {each["pointer"] for each in response.json()["errors"]} == {"#/prompt", "#/promt"}
    assert stored_files(settings) == []


async def test_without_a_jobs_folder_respond_async_is_ignored(running: Any, settings: Settings) -> None:
    async with running(settings.model_copy(update={"jobs_folder": ""})) as client:
        response = await client.post()
        assert response.status_code == 200
        assert "preference-applied" not in response.headers
        assert (await client.get("/jobs/x")).json()["code"] == "not_found"


async def test_equal_requests_with_the_same_key_are_one_job(client: Client, triton: FakeTriton) -> None:
    first = await client.accepted({"Idempotency-Key": UUID})
    await client.finished(first)
    assert await client.accepted({"Idempotency-Key": f'"{UUID}"'}) == first
    assert len(triton.streams) == 1


async def test_a_key_belongs_to_one_request_and_one_caller(client: Client) -> None:
    first = await client.accepted({"Idempotency-Key": UUID})
    response = await client.post({"Idempotency-Key": UUID}, prompt="another house")
    assert (response.status_code, response.json()["code"]) == (422, "idempotency_key_reused")
    client.caller = "key:bob"
    assert await client.accepted({"Idempotency-Key": UUID}, prompt="another house") != first


async def test_repeated_requests_with_a_key_run_once_and_get_the_same_result(
    client: Client, triton: FakeTriton
) -> None:
    async def ask(accept: str) -> httpx2.Response:
        headers = {"Idempotency-Key": UUID, "Accept": accept}
        return await client.http.post(PATH, json=client.body(output_format="png"), headers=headers)

    first, second = await asyncio.gather(ask("application/json"), ask("application/json"))
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json() == second.json()
    assert (await ask("image/png")).headers["x-seed"] == str(first.json()["seed"])
    assert "event: completed" in (await ask("text/event-stream")).text
    assert len(triton.streams) == 1


async def test_a_repeated_request_gets_the_error_of_the_first_one(
    client: Client, stream_model: ScriptedStreamModel, triton: FakeTriton
) -> None:
    stream_model.fails_at_once = InvalidRequestError("No such scheduler.", code="unknown_scheduler")
    for _ in range(2):
        response = await client.http.post(PATH, json=client.body(), headers={"Idempotency-Key": UUID})
        assert (response.status_code, response.json()["code"]) == (422, "unknown_scheduler")
    assert len(triton.streams) == 1


@pytest.mark.parametrize("key", ["", "x" * 256, '"open', "sch\xf6n"])
async def test_a_malformed_key_is_rejected(client: Client, key: str) -> None:
    response = await client.http.post(
        PATH, json=client.body(), headers=[(b"prefer", b"respond-async"), (b"idempotency-key", key.encode("latin-1"))]
    )
    assert (response.status_code, response.json()["code"]) == (422, "invalid_idempotency_key")


async def test_jobs_are_limited_per_caller_and_in_total(
    running: Any, settings: Settings, stream_model: ScriptedStreamModel
) -> None:
    stream_model.go_on.clear()
    limits = {"jobs_max_per_caller": 2, "jobs_max_waiting": 2, "jobs_max_running": 1}
    async with running(settings.model_copy(update=limits)) as client:
        first, _ = [await client.accepted() for _ in range(2)]
        response = await client.post()
        assert (response.status_code, response.json()["code"]) == (429, "too_many_jobs")
        assert int(response.headers["retry-after"]) >= 1
        client.caller = "key:bob"
        await client.accepted()
        response = await client.post()
        assert (response.status_code, response.json()["code"]) == (503, "too_many_jobs")
        stream_model.go_on.set()
        client.caller = "key:alice"
        await client.finished(first)
        await client.accepted()


async def test_a_full_disk_is_reported_and_leaves_no_partial_job(
    client: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.finished(await client.accepted())

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = stored_files(settings)
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full)
        response = await client.post()
    assert (response.status_code, response.json()["code"]) == (503, "jobs_unavailable")
    assert "No space left on device" in response.json()["detail"]
    assert stored_files(settings) == before
    await client.finished(await client.accepted())


async def test_only_the_frontends_user_can_read_job_files(client: Client, settings: Settings) -> None:
    await client.finished(await client.accepted())
    found = stored_files(settings)
    names = {path.name for path in found}
    assert "result.json" in names
    assert any(name.startswith("request-") for name in names)
    assert {mode(path) for path in found} == {0o600}
    assert mode(Path(settings.jobs_folder)) == 0o700


async def test_the_openapi_document_describes_jobs(client: Client) -> None:
    document = (await client.get("/openapi.json")).json()
    operation = document["paths"][PATH]["post"]
    names = {each["name"] for each in operation["parameters"]}
    assert {"Prefer", "Idempotency-Key", "Webhook-URL"} <= names
    assert operation["responses"]["202"]["content"]["application/json"]["schema"]["$ref"].endswith("/JobView")
    assert "runs" in document["components"]["schemas"]["JobView"]["properties"]
    assert {path for path in document["paths"] if path.startswith("/jobs")} == {
        "/jobs",
        "/jobs/{job_id}",
        "/jobs/{job_id}/events",
        "/jobs/{job_id}/result",
    }
