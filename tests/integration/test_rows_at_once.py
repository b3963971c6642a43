# SPDX-License-Identifier: Apache-2.0
"""The facade model on a real Triton, with many rows of many clients at once: no process dies and no request hangs.

Triton's Python backend mishandles the GIL when models call models and when threads send responses. The facade and the
engine work around that.
"""

import asyncio
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from support.paths import ROOT
from support.scribble_app import MODEL
from support.serving import Server, serving

pytestmark = pytest.mark.integration

MODELS = ROOT / "models"
STREAM_MODEL = f"{MODEL}_stream"
NUM_CLIENTS = 8
PATIENCE_S = 30.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """The facade, with a simulated engine that sends the responses of the real one."""
    for name, code in ((MODEL, MODELS / MODEL / "1"), (STREAM_MODEL, ROOT / "tests" / "integration" / "played_engine")):
        version = tmp_path / "models" / name / "1"
        version.mkdir(parents=True)
        shutil.copy(MODELS / name / "config.pbtxt", version.parent)
        shutil.copy(code / "model.py", version)
    for package in ("diffusion_engine", "triton_adapter"):
        (version / package).symlink_to(MODELS / STREAM_MODEL / "1" / package)
    with serving("--embedded", folder=tmp_path) as running:
        yield running.wait_until_ready()


def body(num_rows: int, *, fails: bool, outputs: tuple[str, ...] = ()) -> dict[str, Any]:
    values = {"prompt": ("BYTES", ["a"]), "image": ("BYTES", ["b" * 3000]), "conditioning_scale": ("FP32", [1.0])}
    inputs = [
        {"name": name, "datatype": datatype, "shape": [num_rows, 1], "data": value * num_rows}
        for name, (datatype, value) in values.items()
    ]
    seeds = [-1 if fails else 0, *range(1, num_rows)]
    inputs.append({"name": "seed", "datatype": "INT64", "shape": [num_rows, 1], "data": seeds})
    return {"inputs": inputs, "outputs": [{"name": name} for name in outputs]} if outputs else {"inputs": inputs}


async def call(client: httpx2.AsyncClient, url: str, chance: random.Random) -> str:
    """Send one request and return its outcome."""
    num_rows, fails = chance.randint(1, 8), chance.random() < 0.2
    outputs = ("generated_image",) if chance.random() < 0.3 else ()
    patience_s = chance.random() * 0.02 if chance.random() < 0.1 else PATIENCE_S
    try:
        async with asyncio.timeout(patience_s):
            response = await client.post(url, json=body(num_rows, fails=fails, outputs=outputs), timeout=None)
    except TimeoutError:
        return "hung" if patience_s == PATIENCE_S else "disconnected"
    if response.status_code == 503:  # rows of disconnected clients still run
        return "rejected"
    assert response.status_code == (400 if fails else 200), response.text
    if fails:
        return "failed"
    outputs_by_name = {tensor["name"]: tensor["data"] for tensor in response.json()["outputs"]}
    assert outputs_by_name.keys() == (set(outputs) or {"generated_image", "seed", "info"})
    assert outputs or outputs_by_name["seed"] == list(range(num_rows))
    return "completed"


async def call_all(url: str, num_calls: int) -> Counter[str]:
    async def one_after_another(seed: int) -> Counter[str]:
        chance, outcomes = random.Random(seed), Counter[str]()  # noqa: S311
        for _ in range(num_calls // NUM_CLIENTS):
            outcomes[await call(client, url, chance)] += 1
            if outcomes["hung"]:
                break
        return outcomes

    async with httpx2.AsyncClient() as client:
        return sum(await asyncio.gather(*map(one_after_another, range(NUM_CLIENTS))), Counter())


@pytest.mark.parametrize("num_calls", [160, pytest.param(4000, marks=pytest.mark.slow)])
def test_rows_of_many_clients_all_get_a_response(server: Server, num_calls: int) -> None:
    stubs = {each for each in server.below() if each.name().startswith("triton_python")}
    outcomes = asyncio.run(call_all(f"http://{server.triton_url}/v2/models/{MODEL}/infer", num_calls))
    assert outcomes.total() == num_calls
    assert outcomes["hung"] == 0
    assert outcomes["completed"] > num_calls / 2
    assert len(stubs) == 2
    assert all(each.is_running() for each in stubs)
