# SPDX-License-Identifier: Apache-2.0
"""`Server-Timing` is on every answer, and says where the time went."""

import re
import time
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from scribble_app import PATH
from scripted_triton import INFER, scripted_triton
from sockets import listening

from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.observation import TRITON, Observation, Stage, current_observation


def timing(answer: httpx2.Response) -> dict[str, float]:
    """Milliseconds by stage."""
    (header,) = answer.headers.get_list("server-timing")
    return stages(header)


def stages(header: str) -> dict[str, float]:
    return {name: float(value) for name, value in re.findall(r"(\w+);dur=([\d.]+)", header)}


async def test_an_answer_tells_its_stages(client: httpx2.AsyncClient, body: Callable[..., dict[str, Any]]) -> None:
    told = timing(await client.post(PATH, json=body()))
    assert set(told) == {"read", "wait", "triton", "total"}
    assert told["total"] >= told["triton"] + told["read"]


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", PATH), ("GET", PATH), ("GET", "/nothing"), ("GET", "/health/live"), ("GET", "/docs"), ("POST", "/v1/x")],
)
async def test_every_answer_has_it_errors_too(client: httpx2.AsyncClient, method: str, path: str) -> None:
    assert "total" in timing(await client.request(method, path))


async def test_tritons_own_protocol_has_it_and_its_errors() -> None:
    async with (
        scripted_triton() as triton,
        listening(TritonFrontend(settings=Settings(triton_url=triton.url))) as caller,
    ):
        assert timing(await caller.post(INFER, json={}))["triton"] > 0
        assert timing(await caller.get("/v2/nothing"))["triton"] == 0


async def test_work_side_by_side_counts_once() -> None:
    seen = Observation("GET")
    current_observation.set(seen)
    started = time.perf_counter()
    with Stage(TRITON), Stage(TRITON):
        now = time.perf_counter()
        assert 2000 <= stages(seen.server_timing(now + 2).decode())["triton"] < 4000  # not twice as much
    assert 0 < seen.seconds[TRITON] <= time.perf_counter() - started
    before = seen.seconds[TRITON]
    with Stage(TRITON):
        pass
    assert before <= seen.seconds[TRITON] < 1
