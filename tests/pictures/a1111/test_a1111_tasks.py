# SPDX-License-Identifier: Apache-2.0
"""A1111's running requests: their owners, progress and interrupt."""

import asyncio
import base64
import io
import json
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image

from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.pictures.a1111 import tasks
from fastapi_triton.pictures.a1111.tasks import COOKIE, Task, TaskOwner, Tasks
from fastapi_triton.testing import FakeTriton
from support.api_keys import DRAWS, WATCHES, bearer, block
from support.app_on_socket import listening
from support.scripted_stream_model import ScriptedStreamModel, app_of

TXT2IMG, PROGRESS, INTERRUPT = "/sdapi/v1/txt2img", "/sdapi/v1/progress", "/sdapi/v1/interrupt"
INTERNAL_PROGRESS = "/internal/progress"


def test_a_client_owns_tasks_of_its_session_and_of_its_address_without_a_session() -> None:
    mine = TaskOwner("", "cookie", "10.0.0.1")
    assert mine.owns(mine)
    assert mine.owns(TaskOwner("", None, "10.0.0.1"))  # a program may keep cookies for some requests only
    assert not mine.owns(TaskOwner("", None, "10.0.0.2"))
    assert not mine.owns(TaskOwner("", "another", "10.0.0.1"))
    assert not mine.owns(TaskOwner("Basic x", "cookie", "10.0.0.1"))
    assert not TaskOwner("", None, "10.0.0.1").owns(mine)


@pytest.fixture
async def waiting(
    socket_client: httpx2.AsyncClient, stream_model: ScriptedStreamModel
) -> asyncio.Task[httpx2.Response]:
    """A request with a session cookie, held before its second step."""
    socket_client.cookies.set(COOKIE, "mine")
    stream_model.holds_before = 2
    stream_model.go_on.clear()
    body = {"prompt": "a red house", "force_task_id": "task-1", "width": 128, "height": 128}
    asking = asyncio.create_task(socket_client.post(TXT2IMG, json=body))
    while (await socket_client.get(PROGRESS)).json()["progress"] == 0:
        pass
    return asking


def other_client(socket_client: httpx2.AsyncClient, **cookies: str) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=socket_client.base_url, cookies=cookies, timeout=60)


async def test_progress_has_the_position_in_the_models_queue(
    socket_client: httpx2.AsyncClient, stream_model: ScriptedStreamModel
) -> None:
    stream_model.positions = [3]
    stream_model.go_on.clear()
    drawing = asyncio.create_task(socket_client.post(TXT2IMG, json={"prompt": "a red house"}))
    while (progress := (await socket_client.get(PROGRESS)).json())["textinfo"] is None:
        pass
    assert (progress["textinfo"], progress["eta_relative"]) == ("Waiting in the queue, at position 3", 9.0)
    stream_model.go_on.set()
    assert (await drawing).status_code == 200


async def test_progress_is_that_of_the_clients_own_task(
    socket_client: httpx2.AsyncClient, waiting: asyncio.Task[httpx2.Response], stream_model: ScriptedStreamModel
) -> None:
    progress = (await socket_client.get(PROGRESS)).json()
    assert (progress["progress"], progress["state"]["sampling_step"], progress["state"]["sampling_steps"]) == (
        0.5,
        1,
        2,
    )
    assert (progress["state"]["job_count"], progress["current_task"]) == (1, "task-1")
    assert Image.open(io.BytesIO(base64.b64decode(progress["current_image"]))).format == "PNG"
    assert (await socket_client.get(PROGRESS, params={"skip_current_image": True})).json()["current_image"] is None
    async with other_client(socket_client) as other, other_client(socket_client, **{COOKIE: "theirs"}) as third:
        for each in (other, third):
            progress = (await each.get(PROGRESS)).json()
            assert (progress["progress"], progress["state"]["job_count"], progress["current_task"]) == (0, 0, None)
        # a client that knows the task's id may watch it
        assert (await other.get(PROGRESS, params={"id_task": "task-1"})).json()["progress"] == 0.5
    stream_model.go_on.set()
    assert (await waiting).status_code == 200
    assert (await socket_client.get(PROGRESS)).json()["state"]["job_count"] == 0


@pytest.mark.parametrize("route", [INTERRUPT, "/sdapi/v1/skip"])
async def test_interrupt_cancels_the_clients_own_task_and_returns_its_preview(
    route: str,
    socket_client: httpx2.AsyncClient,
    waiting: asyncio.Task[httpx2.Response],
    app: TritonFrontend,
    triton: FakeTriton,
) -> None:
    async with other_client(socket_client) as other:
        assert (await other.post(route)).json() == {}
        assert (await other.post(route, params={"id_task": "task-2"})).json() == {}
    assert app.services.admission.in_flight == 1
    assert (await socket_client.post(route)).json() == {}
    response = await waiting
    assert response.status_code == 200
    assert triton.streams[-1].is_closed_early
    assert app.services.admission.in_flight == 0
    (shown,) = response.json()["images"]
    assert Image.open(io.BytesIO(base64.b64decode(shown))).size == (128, 128)
    assert "interrupted at step 1 of 2" in json.loads(response.json()["info"])["notes"][0]


async def test_the_id_of_a_running_task_is_rejected(
    socket_client: httpx2.AsyncClient, waiting: asyncio.Task[httpx2.Response], stream_model: ScriptedStreamModel
) -> None:
    response = await socket_client.post(TXT2IMG, json={"prompt": "a red house", "force_task_id": "task-1"})
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, "#/force_task_id")
    stream_model.go_on.set()
    await waiting


async def test_closing_the_connection_cancels_the_task(
    socket_client: httpx2.AsyncClient, waiting: asyncio.Task[httpx2.Response], app: TritonFrontend, triton: FakeTriton
) -> None:
    waiting.cancel()
    await triton.streams[-1].ended.wait()
    assert triton.streams[-1].is_closed_early
    while (await socket_client.get(PROGRESS)).json()["state"]["job_count"]:
        pass
    assert app.services.admission.in_flight == 0


async def test_a_task_is_that_of_one_key_also_by_its_id(
    triton: FakeTriton, settings: Settings, stream_model: ScriptedStreamModel, tmp_path: Path
) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text(block("a", DRAWS, 'scopes = ["infer"]') + block("b", WATCHES, 'scopes = ["infer"]'))
    of_a, of_b = {"headers": bearer(DRAWS)}, {"headers": bearer(WATCHES)}
    body, by_id = {"prompt": "a red house", "force_task_id": "task-1"}, {"id_task": "task-1"}
    stream_model.holds_before = 2
    stream_model.go_on.clear()
    async with listening(app_of(triton, settings.model_copy(update={"api_keys_file": str(keys)}))) as client:
        drawing = asyncio.create_task(client.post(TXT2IMG, json=body, **of_a))
        while (await client.get(PROGRESS, params=by_id, **of_a)).json()["progress"] == 0:
            pass
        progress = (await client.get(PROGRESS, params=by_id, **of_b)).json()
        assert (progress["progress"], progress["state"]["job_count"], progress["current_image"]) == (0, 0, None)
        assert state((await client.post(INTERNAL_PROGRESS, json=by_id, **of_b)).json()) == (False, False, False, None)
        assert (await client.post(INTERRUPT, params=by_id, **of_b)).status_code == 200
        same_id = asyncio.create_task(client.post(TXT2IMG, json=body, **of_b))
        while (await client.get(PROGRESS, params=by_id, **of_b)).json()["progress"] == 0:
            pass
        stream_model.go_on.set()
        for each in (drawing, same_id):
            response = await each
            assert (response.status_code, response.json()["notes"]) == (200, [])
        assert state((await client.post(INTERNAL_PROGRESS, json=by_id, **of_a)).json())[2]


# ---- /internal/progress


async def internal(client: httpx2.AsyncClient, **fields: Any) -> dict[str, Any]:
    response = await client.post(INTERNAL_PROGRESS, json=fields)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def state(progress: dict[str, Any]) -> tuple[bool, bool, bool, float | None]:
    return progress["active"], progress["queued"], progress["completed"], progress["progress"]


async def test_internal_progress_follows_a_task_by_its_id_until_it_is_completed(
    socket_client: httpx2.AsyncClient, waiting: asyncio.Task[httpx2.Response], stream_model: ScriptedStreamModel
) -> None:
    async with other_client(socket_client) as other:
        progress = await internal(other, id_task="task-1", id_live_preview=-1)
        assert state(progress) == (True, False, False, 0.5)
        assert (progress["eta"] > 0, progress["textinfo"], progress["id_live_preview"]) == (True, None, 1)
        prefix, _, preview = progress["live_preview"].partition(",")
        assert prefix == "data:image/png;base64"
        assert Image.open(io.BytesIO(base64.b64decode(preview))).format == "PNG"
        for known in ({"id_live_preview": 1}, {"live_preview": False}):
            assert (await internal(other, id_task="task-1", **known))["live_preview"] is None
        assert state(await internal(other, id_task="task-2")) == (False, False, False, None)
        assert state(await internal(socket_client)) == (False, False, False, None)  # without an id there is no task
        stream_model.go_on.set()
        assert (await waiting).status_code == 200
        progress = await internal(other, id_task="task-1", id_live_preview=1)
        assert (state(progress), progress["id_live_preview"]) == ((False, False, True, None), 1)


async def test_internal_progress_of_a_waiting_task_has_its_position(
    socket_client: httpx2.AsyncClient, stream_model: ScriptedStreamModel
) -> None:
    stream_model.positions = [3]
    stream_model.go_on.clear()
    body = {"prompt": "a red house", "force_task_id": "task-1"}
    drawing = asyncio.create_task(socket_client.post(TXT2IMG, json=body))
    while not (progress := await internal(socket_client, id_task="task-1"))["queued"]:
        pass
    assert state(progress) == (False, True, False, 0.0)
    assert (progress["textinfo"], progress["eta"]) == ("Waiting in the queue, at position 3", 9.0)
    stream_model.go_on.set()
    assert (await drawing).status_code == 200


async def test_internal_progress_rejects_other_bodies(client: httpx2.AsyncClient) -> None:
    for body, status in ((b"{", 400), (b"[]", 422), (b'{"id_task": 7}', 422), (b'{"id_live_preview": "x"}', 422)):
        response = await client.post(INTERNAL_PROGRESS, content=body)
        assert (response.status_code, response.json()["error"]) == (
            status,
            "UnreadableRequestError" if status == 400 else "InvalidRequestError",
        )


def test_only_the_last_finished_tasks_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_MAX_FINISHED", 2)
    known = Tasks()
    owner = TaskOwner("", None, "10.0.0.1")
    for name in ("a", "b", "c"):
        known.remove(known.add(owner, 1, task_id=name))
    assert [known.is_finished(owner, name) for name in ("a", "b", "c", "d", None)] == [False, True, True, False, False]
    unnamed = known.add(owner, 1, task_id=None)
    known.remove(unnamed)  # displaces none whose id was chosen
    assert known.is_finished(owner, "b")
    assert known.is_finished(owner, unnamed.id)
    known.add(owner, 1, task_id="c")
    assert not known.is_finished(owner, "c")


def test_the_estimate_counts_from_the_end_of_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.time, "time", lambda: 1060.0)
    task = Task("a", TaskOwner("", None, "10.0.0.1"), 1, started=1000.0, began=1050.0)
    assert task.eta_s is None
    task.steps[0] = (5, 20)
    assert task.eta_s == 30.0
