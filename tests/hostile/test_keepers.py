# SPDX-License-Identifier: Apache-2.0
"""Background tasks continue after any error. If the key file's watcher stopped, revoked keys would stay valid."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.core import background
from fastapi_triton.core.background import BackgroundTask, running_tasks
from fastapi_triton.middleware.auth.key_file import MAX_BYTES, KeyFile
from fastapi_triton.middleware.auth.keys import KeyFileError, new_secret
from fastapi_triton.testing import FakeTriton
from support.api_keys import DRAWS, bearer, block
from support.app_on_socket import listening

DEEP_TOML = "a = " + "[" * 3000 + "]" * 3000


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.toml"
    path.write_text(block("draws", DRAWS))
    return path


@pytest.fixture
async def guarded(
    key_file: Path, triton: FakeTriton, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a server that polls its key file often."""
    monkeypatch.setitem(KeyFile.__init__.__kwdefaults__ or {}, "poll_interval_s", 0.05)
    update = {"api_keys_file": str(key_file), "generate": True}
    async with listening(TritonFrontend(settings=settings.model_copy(update=update), triton=triton)) as client:
        yield client


async def failing_tasks(client: httpx2.AsyncClient) -> list[str]:
    body = (await client.get("/health/ready")).json()
    return [each["task"] for each in body.get("failing_tasks", ())]


async def until_failing(client: httpx2.AsyncClient, tasks: list[str]) -> dict[str, Any]:
    """The body of `/health/ready` once exactly these tasks fail."""
    while True:
        body: dict[str, Any] = (await client.get("/health/ready")).json()
        if [each["task"] for each in body.get("failing_tasks", ())] == tasks:
            return body


def deep(path: Path) -> None:
    path.write_text(DEEP_TOML)


def garbled(path: Path) -> None:
    path.write_text("[keys.")


def long_number(path: Path) -> None:
    path.write_text("a = " + "1" * 5000)


def removed(path: Path) -> None:
    path.unlink()


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def enormous(path: Path) -> None:
    os.truncate(path, MAX_BYTES + 1)


def restore(path: Path, content: str) -> None:
    new = path.with_name("new")
    new.write_text(content)
    if path.is_dir():
        path.rmdir()
    new.rename(path)


@pytest.mark.parametrize("spoil", [deep, garbled, long_number, removed, folder, pipe, enormous])
async def test_key_revoked_after_the_file_was_unusable_is_rejected(
    guarded: httpx2.AsyncClient, key_file: Path, spoil: Callable[[Path], None]
) -> None:
    assert (await guarded.get("/models", headers=bearer(DRAWS))).status_code == 200
    spoil(key_file)
    body = await until_failing(guarded, ["API key file"])
    # The last valid keys stay in use, and readiness and the metrics report it.
    assert "revoked" in body["failing_tasks"][0]["consequence"]
    assert str(key_file) not in str(body)
    assert (await guarded.get("/models", headers=bearer(DRAWS))).status_code == 200

    restore(key_file, block("other", new_secret()))
    while (status := (await guarded.get("/models", headers=bearer(DRAWS))).status_code) == 200:
        pass
    assert status == 401
    await until_failing(guarded, [])


@pytest.mark.parametrize("spoil", [deep, long_number, folder, pipe, enormous])
def test_unusable_key_file_at_start_is_a_one_line_error(key_file: Path, spoil: Callable[[Path], None]) -> None:
    spoil(key_file)
    with pytest.raises(KeyFileError, match="cannot be used"):
        KeyFile(key_file).load()


async def test_metrics_show_a_failing_task(app: TritonFrontend) -> None:
    async with listening(app) as client:
        with BackgroundTask("some task", consequence="Nothing happens.").listed() as _:
            task = running_tasks()[-1]
            task.failed(OSError("why"))
            task.failed(OSError("why"))
            text = (await client.get("/metrics")).text
            assert 'fastapi_triton_background_task_failing{task="some task"} 1.0' in text
            assert 'fastapi_triton_background_task_failures_total{task="some task"} 2.0' in text
            task.succeeded()
            text = (await client.get("/metrics")).text
            assert 'fastapi_triton_background_task_failing{task="some task"} 0.0' in text
            assert 'fastapi_triton_background_task_failures_total{task="some task"} 2.0' in text


async def test_every_background_task_survives_an_unexpected_error(
    app: TritonFrontend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each task fails once with an error that no code expects, and continues."""
    monkeypatch.setattr(background, "FIRST_BACKOFF_S", 0.0)
    failed: set[str] = set()
    recovered = asyncio.Event()
    repeat = BackgroundTask.repeat

    async def failing_at_first(self: BackgroundTask, step: background.Step, **options: Any) -> None:
        async def once() -> float | None:
            if self.name not in failed:
                failed.add(self.name)
                raise RecursionError
            if {each.name for each in running_tasks() if each.num_failures and not each.is_failing} >= failed:
                recovered.set()
            return await step()

        await repeat(self, once, **options)

    monkeypatch.setattr(BackgroundTask, "repeat", failing_at_first)
    async with listening(app) as client:
        await recovered.wait()
        assert {"model registry", "metrics"} <= failed
        assert await failing_tasks(client) == []
