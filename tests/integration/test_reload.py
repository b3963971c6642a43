# SPDX-License-Identifier: Apache-2.0
"""A real Triton that comes back with another config; functions around its model; what `check --triton` says of it."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import FUNCTION_APP, Server, serving

CHECK = (sys.executable, "-m", "fastapi_triton", "check", "--json")

pytestmark = pytest.mark.integration


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The app and its model repository, to be changed."""
    shutil.copytree(FUNCTION_APP, tmp_path / "app", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "app"


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    with serving("--embedded", "--watch-interval-s", "0.5", folder=folder) as running:
        yield running.wait_until_ready()


def rename_the_input(folder: Path, old: str, new: str) -> None:
    config = folder / "models" / "mood" / "config.pbtxt"
    assert f'"{old}"' in config.read_text()
    config.write_text(config.read_text().replace(f'"{old}"', f'"{new}"'))


def check(server: Server, folder: Path, *arguments: str) -> tuple[int, dict[str, dict[str, str]]]:
    """Exit code and findings by rule, of the app in the folder against the Triton that runs."""
    done = subprocess.run(
        [*CHECK, "--triton", f"http://{server.triton_url}", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        check=False,
    )
    return done.returncode, {each["code"]: each for each in json.loads(done.stdout)["findings"]}


def test_a_triton_that_comes_back_with_another_config_is_held_against_it(server: Server, folder: Path) -> None:
    for path in ("/mood", "/mood/in-a-thread"):
        assert server.post(path, json={"text": "aB"}).json() == {"score": 0.5}
    status, found = check(server, folder, "models", "--trial")
    assert status == 0, found
    assert set(found) <= {"cancel-may-crash", "shared-memory-off", "trace-context-lost"}

    rename_the_input(folder, "input.ids", "tokens")
    server.named("tritonserver").kill()  # the frontend starts another, which reads the changed config
    server.wait_for(r"/mood does not fit mood")
    answer = server.post("/mood", json={"text": "aB"})
    assert (answer.status_code, answer.json()["code"]) == (503, "contract_mismatch")
    assert "`Tokens.ids` (tensor `input.ids`): the model mood has no input of that name" in answer.json()["detail"]
    assert server.get("/health/live").status_code == 200
    state = server.get("/health/ready").json()["endpoints"][0]
    assert (state["code"], len(state["mismatches"])) == ("contract_mismatch", 2)

    rename_the_input(folder, "tokens", "input.ids")  # in the file alone: what runs is what counts
    status, found = check(server, folder, "models")
    assert status == 1
    assert found["contract-mismatch"]["where"] == "/mood/in-a-thread"
    assert found["config-differs"]["detail"] == "the input `tokens` is another one"
