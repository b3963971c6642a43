# SPDX-License-Identifier: Apache-2.0
"""An accepted job survives a killed frontend or Triton, and makes the picture of the seed that it drew first."""

import base64
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from test_scribble import levels

from support.paths import ROOT
from support.postgres import running_postgres
from support.received_events import events_in
from support.scribble_app import PATH, SMALL
from support.serving import Server, serving

pytestmark = pytest.mark.integration

HOUSE = base64.b64encode((ROOT / "demo" / "examples" / "house.png").read_bytes()).decode()


def body(**fields: Any) -> dict[str, Any]:
    return {"prompt": "a red house", "image": HOUSE, "output_format": "png", **SMALL, **fields}


def accepted(server: Server, **fields: Any) -> str:
    """The path of a new job."""
    response = server.post(PATH, json=body(**fields), headers={"Prefer": "respond-async"})
    assert response.status_code == 202, response.text
    return str(response.headers["location"])


def events(server: Server, job: str) -> Iterator[tuple[str, dict[str, Any]]]:
    with httpx2.stream("GET", f"{server.url}{job}/events", timeout=240) as response:
        assert response.status_code == 200
        yield from ((event.name, event.data) for event in events_in(response.iter_lines()) if event.name)


def wait_for_step(server: Server, job: str) -> None:
    next(name for name, _ in events(server, job) if name == "progress")


def assert_is_the_picture_of_its_seed(server: Server, job: str) -> None:
    result = server.get(f"{job}/result").json()
    fields = {name: result["info"][name] for name in ("num_inference_steps", "width", "height")}
    again = server.post(PATH, json=body(seed=result["seed"], **fields)).json()
    pictures = [levels(base64.b64decode(each["generated_image"])) for each in (result, again)]
    assert np.abs(pictures[0] - pictures[1]).max() <= 1  # the last bit may differ in a pass with other rows


def test_killed_frontend_finishes_its_job_after_a_restart(scribble_server: Server, tmp_path: Path) -> None:
    shutil.copy(ROOT / "main.py", tmp_path)
    arguments = ["--triton", f"http://{scribble_server.triton_url}", "--jobs-folder", str(tmp_path / "jobs")]
    command = [sys.executable, "-m", "fastapi_triton", "serve", *arguments]
    first = Server(command, folder=tmp_path)
    try:
        first.wait_until_ready()
        job = accepted(first, num_inference_steps=30)
        wait_for_step(first, job)
    finally:
        first.stop(signal.SIGKILL)
    with serving(*arguments, folder=tmp_path) as second:
        second.wait_until_ready()
        assert [name for name, _ in events(second, job)][-1] == "completed"
        state = second.get(job).json()
        assert (state["status"], state["runs"]) == ("completed", 2)
        assert_is_the_picture_of_its_seed(second, job)


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_frontends_share_jobs_and_take_over_those_of_a_killed_one(
    scribble_server: Server, tmp_path: Path, database: str
) -> None:
    shutil.copy(ROOT / "main.py", tmp_path)
    with running_postgres() if database == "postgresql" else nullcontext() as url:
        arguments = ["--triton", f"http://{scribble_server.triton_url}", "--jobs-folder", str(tmp_path / "jobs")]
        arguments += ["--jobs-max-running", "1", *(["--jobs-url", url] if url else [])]
        command = [sys.executable, "-m", "fastapi_triton", "serve", *arguments]
        servers = [Server(command, folder=tmp_path) for _ in range(2)]
        try:
            for server in servers:
                server.wait_until_ready()
            long = accepted(servers[0], num_inference_steps=50, width=256, height=256)
            wait_for_step(servers[1], long)
            started = f"{long.removeprefix('/jobs/')} starts"
            first, second = servers if started in servers[0].log else servers[::-1]  # the first runs it
            short = accepted(first, num_inference_steps=2)
            assert [name for name, _ in events(first, short)][-1] == "completed"
            first.stop(signal.SIGKILL)
            assert [name for name, _ in events(second, long)][-1] == "completed"
            assert [second.get(job).json()["runs"] for job in (long, short)] == [2, 1]
            assert_is_the_picture_of_its_seed(second, long)
        finally:
            for server in servers:
                server.stop(signal.SIGKILL)


@pytest.mark.slow
def test_job_waits_for_a_killed_triton_and_keeps_its_seed(tmp_path: Path) -> None:
    shutil.copy(ROOT / "main.py", tmp_path)
    (tmp_path / "models").symlink_to(ROOT / "models")
    with serving("--embedded", "--jobs-folder", str(tmp_path / "jobs"), folder=tmp_path) as server:
        server.wait_for("Ready: http://", timeout_s=300)
        job = accepted(server, num_inference_steps=30)
        wait_for_step(server, job)
        server.named("tritonserver").kill()
        assert [name for name, _ in events(server, job)][-1] == "completed"
        state = server.get(job).json()
        assert (state["status"], state["runs"]) == ("completed", 2)
        assert_is_the_picture_of_its_seed(server, job)
