# SPDX-License-Identifier: Apache-2.0
"""A job that was accepted is answered, with the picture of the seed drawn then, whatever is killed meanwhile."""

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
from support.scribble_app import PATH
from support.serving import Server, serving

pytestmark = pytest.mark.integration

HOUSE = base64.b64encode((ROOT / "demo" / "examples" / "house.png").read_bytes()).decode()


def body(**fields: Any) -> dict[str, Any]:
    return {"prompt": "a red house", "image": HOUSE, "output_format": "png", **fields}


def accepted(server: Server, **fields: Any) -> str:
    """The path of a new job."""
    answer = server.post(PATH, json=body(**fields), headers={"Prefer": "respond-async"})
    assert answer.status_code == 202, answer.text
    return str(answer.headers["location"])


def events(server: Server, job: str) -> Iterator[tuple[str, dict[str, Any]]]:
    with httpx2.stream("GET", f"{server.url}{job}/events", timeout=240) as answer:
        assert answer.status_code == 200
        yield from ((event.name, event.data) for event in events_in(answer.iter_lines()) if event.name)


def wait_for_step(server: Server, job: str) -> None:
    next(name for name, _ in events(server, job) if name == "progress")


def assert_is_the_picture_of_its_seed(server: Server, job: str) -> None:
    result = server.get(f"{job}/result").json()
    plain = server.post(
        PATH, json=body(seed=result["seed"], num_inference_steps=result["info"]["num_inference_steps"])
    ).json()
    pictures = [levels(base64.b64decode(each["generated_image"])) for each in (result, plain)]
    assert np.abs(pictures[0] - pictures[1]).max() <= 1  # a pass of other rows may round the last bit another way


def test_a_frontend_that_is_killed_answers_its_job_when_it_starts_again(
    scribble_server: Server, tmp_path: Path
) -> None:
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
        told = second.get(job).json()
        assert (told["status"], told["runs"]) == ("completed", 2)
        assert_is_the_picture_of_its_seed(second, job)


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_frontends_share_their_jobs_and_take_over_from_one_that_is_killed(
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
            long = accepted(servers[0], num_inference_steps=50)
            wait_for_step(servers[1], long)
            started = f"{long.removeprefix('/jobs/')} starts"
            first, second = servers if started in servers[0].log else servers[::-1]  # the first one runs it
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
def test_a_triton_that_is_killed_is_waited_for_and_makes_the_picture_of_the_same_seed(tmp_path: Path) -> None:
    shutil.copy(ROOT / "main.py", tmp_path)
    (tmp_path / "models").symlink_to(ROOT / "models")
    with serving("--embedded", "--jobs-folder", str(tmp_path / "jobs"), folder=tmp_path) as server:
        server.wait_for("Ready: http://", timeout_s=300)
        job = accepted(server, num_inference_steps=30)
        wait_for_step(server, job)
        server.named("tritonserver").kill()
        assert [name for name, _ in events(server, job)][-1] == "completed"
        told = server.get(job).json()
        assert (told["status"], told["runs"]) == ("completed", 2)
        assert_is_the_picture_of_its_seed(server, job)
