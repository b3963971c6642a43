# SPDX-License-Identifier: Apache-2.0
"""Jobs of endpoints without a stream model and of functions; apps without jobs; where `serve` stores jobs."""

import asyncio
import importlib.util
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import BaseModel

import main
from fastapi_triton import Infer, Settings, TritonFrontend
from fastapi_triton.cli.serve import default_jobs_folder
from fastapi_triton.testing import FakeTriton
from fastapi_triton.triton.model_config import ModelConfig
from support.jobs_client import ASYNC, Client
from support.scribble_app import MODEL, PATH, paint


@pytest.fixture
def plain_triton(scribble_config: ModelConfig) -> FakeTriton:
    fake = FakeTriton()
    fake.add(scribble_config, paint)
    return fake


@asynccontextmanager
async def client_of(app: TritonFrontend, body: Callable[..., dict[str, Any]]) -> AsyncIterator[Client]:
    async with (
        asyncio.timeout(60),
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://test") as http,
    ):
        yield Client(http, body)


async def test_an_endpoint_without_a_stream_model_has_jobs(
    plain_triton: FakeTriton, settings: Settings, body: Callable[..., dict[str, Any]]
) -> None:
    app = TritonFrontend(triton=plain_triton, settings=settings)
    app.infer(PATH, model=MODEL, request=main.ScribbleRequest, response=main.ScribbleResponse)
    async with client_of(app, body) as client:
        job = await client.accepted({"Accept": "image/jpeg"}, seed=4)
        state = await client.finished(job)
        assert (state["status"], state["runs"], state["step"]) == ("completed", 1, None)
        assert (await client.get(f"{job}/result", "image/*")).headers["content-type"] == "image/jpeg"


class Wish(BaseModel):
    wish: str
    image: str


class Made(BaseModel):
    seed: int


async def test_an_endpoint_with_a_function_has_jobs(
    plain_triton: FakeTriton, settings: Settings, body: Callable[..., dict[str, Any]]
) -> None:
    app = TritonFrontend(triton=plain_triton, settings=settings)

    @app.infer(PATH, model=MODEL)
    async def make(request: Wish, infer: Infer[main.ScribbleRequest, main.ScribbleResponse]) -> Made:
        await infer(main.ScribbleRequest(prompt=request.wish, image=request.image, seed=8))
        made = await infer(main.ScribbleRequest(prompt=request.wish, image=request.image, seed=9))
        return Made(seed=made.seed)

    async with client_of(app, lambda: {"wish": "a house", "image": body()["image"]}) as client:
        job = await client.accepted()
        finished = await client.finished(job)
        assert (finished["status"], finished["runs"]) == ("completed", 1)  # one run, although it calls the model twice
        assert (await client.get(f"{job}/result")).json() == {"seed": 9}


async def test_without_dbos_respond_async_is_ignored_and_the_log_says_why(
    plain_triton: FakeTriton,
    settings: Settings,
    body: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "dbos" else find(name))
    with caplog.at_level(logging.WARNING):
        app = TritonFrontend(triton=plain_triton, settings=settings)
    assert "pip install 'fastapi-triton[jobs]'" in caplog.text
    app.infer(PATH, model=MODEL, request=main.ScribbleRequest, response=main.ScribbleResponse)
    async with client_of(app, body) as client:
        assert (await client.http.post(PATH, json=body(), headers=ASYNC)).status_code == 200
        assert (await client.get("/jobs")).status_code == 404
    assert default_jobs_folder(8080) == ""


def test_serve_has_a_jobs_folder_for_each_working_folder_and_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folders = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        folders |= {default_jobs_folder(8080), default_jobs_folder(9000)}
        assert default_jobs_folder(8080) == default_jobs_folder(8080)
    assert len(folders) == 4
    assert all(Path(folder).is_relative_to(tmp_path / "state" / "fastapi-triton" / "jobs") for folder in folders)
    assert not (tmp_path / "state").exists()
