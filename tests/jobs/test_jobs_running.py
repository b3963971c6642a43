# SPDX-License-Identifier: Apache-2.0
"""A job waits, runs, is followed and cancelled, fails, and runs again."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from pydantic import Field

import main
from fastapi_triton import Settings
from fastapi_triton.core.errors import InferenceError, InvalidRequestError, TritonUnavailableError
from fastapi_triton.testing import FakeTriton
from support.jobs_client import Client
from support.scribble_app import PATH
from support.scripted_stream_model import ScriptedStreamModel, app_of, stream_inputs


def seeds(triton: FakeTriton) -> list[int]:
    return [inputs["seed"].array.item() for _, inputs, _ in triton.requests]


async def test_a_result_has_the_format_that_the_client_accepts(client: Client) -> None:
    job = await client.accepted({"Accept": "image/png"}, seed=3)
    await client.finished(job)
    plain = await client.http.post(PATH, json=client.body(seed=3, output_format="png"))
    assert (await client.get(f"{job}/result")).json() == plain.json()
    picture = await client.get(f"{job}/result", "image/*")
    assert picture.headers["content-type"] == "image/png"
    assert picture.content.startswith(b"\x89PNG")
    assert picture.headers["x-seed"] == "3"
    other = await client.get(f"{job}/result", "image/webp")
    assert (other.status_code, other.json()["code"]) == (406, "not_acceptable")


async def test_a_job_has_its_endpoints_events_and_a_late_client_gets_the_last(
    client: Client, stream_model: ScriptedStreamModel, triton: FakeTriton
) -> None:
    stream_model.go_on.clear()
    stream_model.holds_before = 2
    job = await client.accepted()
    following = asyncio.create_task(client.events(job))
    await stream_model.has_request.wait()
    state = await client.until(job, lambda state: state["step"] == 1)
    assert (state["status"], state["num_steps"], state["runs"]) == ("running", 2, 1)
    stream_model.go_on.set()
    events = await following
    names = [event.name for event in events]
    assert names[-1] == "completed"
    assert set(names[:-1]) <= {"queued", "progress"}
    assert {event.data["num_steps"] for event in events if event.name == "progress"} == {2}
    (late,) = await client.events(job)
    assert late == events[-1]
    assert stream_inputs(triton)[0]["queue_priority"] == "batch"
    assert late.data == (await client.get(f"{job}/result")).json()


async def test_cancelling_a_job_stops_the_model_and_leaves_no_result(
    client: Client, stream_model: ScriptedStreamModel, triton: FakeTriton
) -> None:
    stream_model.go_on.clear()
    job = await client.accepted()
    await stream_model.has_request.wait()
    assert (await client.http.delete(job)).status_code == 204
    await triton.streams[0].ended.wait()
    assert triton.streams[0].is_closed_early
    (event,) = await client.events(job)
    assert (event.name, event.data["code"]) == ("error", "job_cancelled")
    assert (await client.get(job)).json()["status"] == "cancelled"
    assert (await client.get(f"{job}/result")).json()["code"] == "job_cancelled"
    again = await client.http.delete(job)
    assert (again.status_code, again.json()["code"]) == (409, "job_over")


async def test_a_waiting_job_that_is_cancelled_never_runs(
    running: Any, settings: Settings, stream_model: ScriptedStreamModel, triton: FakeTriton
) -> None:
    stream_model.go_on.clear()
    async with running(settings.model_copy(update={"jobs_max_running": 1})) as client:
        first = await client.accepted()
        await stream_model.has_request.wait()
        second = await client.accepted()
        await client.http.delete(second)
        stream_model.go_on.set()
        assert (await client.finished(first))["status"] == "completed"
        assert (await client.get(second)).json()["status"] == "cancelled"
        assert len(triton.streams) == 1


async def test_the_result_of_an_unfinished_job_is_a_409(client: Client, stream_model: ScriptedStreamModel) -> None:
    stream_model.go_on.clear()
    response = await client.get(f"{await client.accepted()}/result")
    assert (response.status_code, response.json()["code"]) == (409, "job_unfinished")


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (InvalidRequestError("No such scheduler.", code="unknown_scheduler"), 422, "unknown_scheduler"),
        (InferenceError("The model failed."), 502, "inference_failed"),
    ],
)
async def test_an_error_of_the_model_fails_the_job_at_once(
    client: Client, stream_model: ScriptedStreamModel, triton: FakeTriton, failure: Exception, status: int, code: str
) -> None:
    stream_model.fails_at_once = failure  # type: ignore[assignment]
    job = await client.accepted()
    state = await client.finished(job)
    assert (state["status"], state["error"]["status"], state["error"]["code"]) == ("failed", status, code)
    response = await client.get(f"{job}/result")
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert len(triton.streams) == 1


async def test_a_job_waits_for_triton_and_runs_again_with_its_seed(
    client: Client, stream_model: ScriptedStreamModel, triton: FakeTriton
) -> None:
    stream_model.fails_after_a_step = TritonUnavailableError("The connection broke.")
    stream_model.go_on.clear()
    job = await client.accepted()
    await stream_model.has_request.wait()
    triton.is_running = False
    stream_model.go_on.set()
    await triton.streams[0].ended.wait()
    state = await client.until(job, lambda state: state["waits_for"] == "Triton does not respond.")
    assert (state["status"], state["runs"]) == ("queued", 1)
    stream_model.fails_after_a_step = None
    triton.is_running = True
    state = await client.finished(job)
    assert (state["status"], state["runs"]) == ("completed", 2)
    first, second = seeds(triton)
    assert first == second


async def test_a_job_that_waits_for_triton_fails_at_its_deadline(
    running: Any, settings: Settings, triton: FakeTriton
) -> None:
    triton.is_running = False
    async with running(settings.model_copy(update={"jobs_timeout_s": 0.3})) as client:
        state = await client.finished(await client.accepted())
    assert (state["status"], state["error"]["code"]) == ("failed", "deadline_exceeded")
    assert "Triton does not respond." in state["error"]["detail"]


async def test_a_job_has_its_position_in_the_models_queue(client: Client, stream_model: ScriptedStreamModel) -> None:
    stream_model.positions = [3, 2]
    stream_model.go_on.clear()
    job = await client.accepted()
    state = await client.until(job, lambda state: (state["queue"] or {}).get("position") == 2)
    assert state["queue"] == {"position": 2, "estimated_wait_s": 4.7, "estimated_total_s": 9.0}
    stream_model.go_on.set()
    assert (await client.finished(job))["queue"] is None


async def test_a_job_waits_for_a_free_slot(client: Client, stream_model: ScriptedStreamModel) -> None:
    stream_model.go_on.clear()
    others = []
    for _ in range(2):  # max_in_flight
        others.append(asyncio.create_task(client.http.post(PATH, json=client.body())))
        await stream_model.has_request.wait()
        stream_model.has_request.clear()
    job = await client.accepted()
    state = await client.until(job, lambda state: bool(state["waits_for"]))
    assert (state["status"], state["runs"]) == ("queued", 0)
    stream_model.go_on.set()
    await asyncio.gather(*others)
    assert (await client.finished(job))["runs"] == 1


async def test_jobs_that_run_or_wait_at_shutdown_run_after_a_restart(
    running: Any, settings: Settings, stream_model: ScriptedStreamModel, triton: FakeTriton
) -> None:
    stream_model.go_on.clear()
    settings = settings.model_copy(update={"jobs_max_running": 1})
    async with running(settings) as client:
        jobs = [await client.accepted()]
        await stream_model.has_request.wait()
        jobs.append(await client.accepted())
    assert triton.streams[0].is_closed_early
    stream_model.go_on.set()
    async with running(settings) as client:
        assert [(await client.finished(each))["runs"] for each in jobs] == [2, 1]
        results = [(await client.get(f"{each}/result")).json() for each in jobs]
    first, second = [each["seed"] for each in results]
    assert seeds(triton)[0] == first
    assert sorted(seeds(triton)) == sorted([first, first, second])  # either may be the first after the restart


class Small(main.ScribbleRequest):
    seed: int | None = Field(None, ge=-1, le=2**31 - 1)


async def test_a_drawn_seed_is_within_the_endpoints_limits(
    triton: FakeTriton, settings: Settings, body: Callable[..., dict[str, Any]]
) -> None:
    app = app_of(triton, settings, Small)
    transport = httpx2.ASGITransport(app=app)
    async with (
        asyncio.timeout(60),
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://test") as http,
    ):
        client = Client(http, body)
        assert (await client.finished(await client.accepted(seed=-1)))["status"] == "completed"
    assert 0 <= seeds(triton)[0] < 2**31
