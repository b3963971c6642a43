# SPDX-License-Identifier: Apache-2.0
"""Changed configs on a real Triton: the frontend and `check --triton` report mismatches with declared functions."""

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import httpx2
import pytest
from pydantic import BaseModel

from fastapi_triton import Infer, Settings, TensorName, TritonFrontend
from fastapi_triton.embedded.triton_process import EmbeddedTriton
from support.serving import FUNCTION_APP, Server, serving

CHECK = (sys.executable, "-m", "fastapi_triton", "check", "--json")

pytestmark = pytest.mark.integration


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The app and a model repository that tests may change."""
    shutil.copytree(FUNCTION_APP, tmp_path / "app", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "app"


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    with serving("--embedded", "--watch-interval-s", "0.5", folder=folder) as running:
        yield running.wait_until_ready()


class Text(BaseModel):
    text: str


class Tokens(BaseModel):
    ids: Annotated[list[int], TensorName("input.ids")]


class Logits(BaseModel):
    logits: list[float]


def rename_the_input(folder: Path, old: str, new: str) -> None:
    config = folder / "models" / "mood" / "config.pbtxt"
    assert f'"{old}"' in config.read_text()
    config.write_text(config.read_text().replace(f'"{old}"', f'"{new}"'))


def check(server: Server, folder: Path, *arguments: str) -> tuple[int, dict[str, dict[str, str]]]:
    """Run `check` on the app in the folder with the running Triton. Return its exit code and its findings by rule."""
    done = subprocess.run(
        [*CHECK, "--triton", f"http://{server.triton_url}", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        check=False,
    )
    return done.returncode, {each["code"]: each for each in json.loads(done.stdout)["findings"]}


def test_config_is_checked_again_after_a_restart_of_triton(server: Server, folder: Path) -> None:
    for path in ("/mood", "/mood/in-a-thread"):
        assert server.post(path, json={"text": "aB"}).json() == {"score": 0.5}
    status, found = check(server, folder, "models", "--trial")
    assert status == 0, found
    assert set(found) <= {"cancel-may-crash", "shared-memory-off", "trace-context-lost"}

    rename_the_input(folder, "input.ids", "tokens")
    server.named("tritonserver").kill()  # the frontend restarts it, and it reads the changed config
    server.wait_for(r"/mood does not fit mood")
    response = server.post("/mood", json={"text": "aB"})
    assert (response.status_code, response.json()["code"]) == (503, "contract_mismatch")
    assert "`Tokens.ids` (tensor `input.ids`): the model mood has no input of that name" in response.json()["detail"]
    assert server.get("/health/live").status_code == 200
    state = server.get("/health/ready").json()["endpoints"][0]
    assert (state["code"], len(state["mismatches"])) == ("contract_mismatch", 2)

    rename_the_input(folder, "tokens", "input.ids")  # only in the file: `check` uses the loaded config
    status, found = check(server, folder, "models")
    assert status == 1
    assert found["contract-mismatch"]["where"] == "/mood/in-a-thread"
    assert found["config-differs"]["detail"] == "the input `tokens` differs"


class ExplicitTriton(EmbeddedTriton):
    """Reloads a model on request, without a restart."""

    def _command(self, folder: Path, shared_memory_prefix: str) -> list[str]:
        command = super()._command(folder, shared_memory_prefix)
        return [*command, "--model-control-mode=explicit", "--load-model=mood"]


async def test_config_is_checked_again_after_a_reload_of_the_model(folder: Path) -> None:
    async with ExplicitTriton.prepare(folder / "models") as triton:
        frontend = TritonFrontend(settings=Settings(triton_url=triton.url, watch_interval_s=0.1))

        @frontend.infer("/mood", model="mood")
        async def mood(request: Text, infer: Infer[Tokens, Logits]) -> Logits:
            return await infer(Tokens(ids=[ord(letter) for letter in request.text]))

        transport = httpx2.ASGITransport(app=frontend)
        async with (
            frontend.router.lifespan_context(frontend),
            httpx2.AsyncClient(transport=transport, base_url="http://test") as client,
            asyncio.timeout(120),
        ):
            assert (await until(client, 200)).json() == {"logits": [1.0, 1.0]}
            rename_the_input(folder, "input.ids", "tokens")
            async with httpx2.AsyncClient(timeout=60) as operator:
                loaded = await operator.post(f"{triton.url}/v2/repository/models/mood/load")
            assert loaded.status_code == 200
            response = await until(client, 503)
            assert response.json()["code"] == "contract_mismatch"


async def until(client: httpx2.AsyncClient, status: int) -> httpx2.Response:
    """Repeat a request until its response has this status."""
    while True:
        response = await client.post("/mood", json={"text": "aB"})
        if response.status_code == status:
            return response
        await asyncio.sleep(0.05)
