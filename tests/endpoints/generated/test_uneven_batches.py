# SPDX-License-Identifier: Apache-2.0
"""Batches whose rows differ in shape, or have a tensor in common, in front of a fake Triton."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.core.errors import InvalidRequestError, invalid_field
from fastapi_triton.testing import FakeTriton
from fastapi_triton.triton.client import Tensors
from fastapi_triton.triton.tensor import Tensor
from support.echo_models import echo, model, tensor
from support.problems import problem_of
from support.slot_requests import settled

SETTINGS = Settings(generate=True, watch_interval_s=3600, max_in_flight=3, max_waiting=1, request_timeout_s=30)
RAGGED = replace(tensor("ids", "INT32", (-1,)), allow_ragged_batch=True)
SIZE = replace(tensor("size", "INT32", (2,)), is_shape_tensor=True)


@pytest.fixture
def triton() -> FakeTriton:
    fake = FakeTriton()
    other = tensor("other", dims=(-1,), optional=True)
    fake.add(model("ragged", RAGGED, tensor("word", "BYTES"), other, batch=4), echo)
    fake.add(model("sized", tensor("x", dims=(-1,)), SIZE, batch=4), echo)
    return fake


@pytest.fixture
def app(triton: FakeTriton) -> TritonFrontend:
    return TritonFrontend(triton=triton, settings=SETTINGS)


@pytest.fixture
async def http(app: TritonFrontend) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        await app.registry.poll()
        yield client


def row(*ids: int) -> dict[str, Any]:
    return {"ids": list(ids), "word": f"w{len(ids)}"}


def shapes(triton: FakeTriton, name: str) -> list[tuple[int, ...]]:
    return [tuple(inputs[name].shape) for _, inputs, _ in triton.requests]


async def test_rows_of_the_same_length_are_one_request_and_others_requests_of_their_own(
    http: httpx2.AsyncClient, triton: FakeTriton
) -> None:
    rows = [row(1), row(2, 3), row(4), row(5, 6, 7)]
    assert (await http.post("/models/ragged/infer", json=rows)).json() == rows
    assert shapes(triton, "ids") == [(2, 1), (1, 2), (1, 3)]
    triton.requests.clear()
    assert (await http.post("/models/ragged/infer", json=[row(1), row(2)])).json() == [row(1), row(2)]
    assert shapes(triton, "ids") == [(2, 1)]


async def test_the_requests_of_a_batch_run_at_the_same_time_in_the_free_slots(
    http: httpx2.AsyncClient, triton: FakeTriton
) -> None:
    all_run = asyncio.Barrier(3)

    async def together(inputs: Tensors) -> dict[str, Tensor]:
        await all_run.wait()
        return dict(inputs)

    triton.models["ragged"].respond = together
    rows = [row(1), row(1, 2), row(1, 2, 3)]
    assert (await http.post("/models/ragged/infer", json=rows)).json() == rows


async def test_a_batch_takes_no_more_slots_than_the_model_has_and_leaves_some_to_others(
    http: httpx2.AsyncClient, triton: FakeTriton
) -> None:
    running: list[asyncio.Event] = []
    started = asyncio.Queue[int]()

    async def reply(inputs: Tensors) -> dict[str, Tensor]:
        running.append(done := asyncio.Event())
        started.put_nowait(inputs["ids"].shape[1])
        await done.wait()
        return dict(inputs)

    async def post(body: Any) -> None:
        assert (await http.post("/models/ragged/infer", json=body)).json() == body

    async def next_lengths(count: int) -> set[int]:
        return {await asyncio.wait_for(started.get(), 10) for _ in range(count)}

    triton.models["ragged"].respond = reply
    batch = asyncio.create_task(post([row(*range(length)) for length in (1, 2, 3, 4)]))
    assert await next_lengths(3) == {1, 2, 3}
    single = asyncio.create_task(post(row(*range(9))))
    running[1].set()
    assert await next_lengths(1) == {9}
    for done in running:
        done.set()
    await next_lengths(1)
    running[-1].set()
    await asyncio.gather(batch, single)


async def test_only_completed_requests_of_a_batch_are_measured(
    http: httpx2.AsyncClient, triton: FakeTriton, app: TritonFrontend
) -> None:
    times = app.services.admission.of("ragged").times

    async def fail_later() -> Any:
        await settled()
        raise InvalidRequestError("no")

    def reply(inputs: Tensors) -> Any:
        return dict(inputs) if inputs["ids"].shape[1] == 3 else fail_later()

    triton.models["ragged"].respond = reply
    problem_of(await http.post("/models/ragged/infer", json=[row(1), row(1, 2)]), 422)
    assert times.service_s is None
    problem_of(await http.post("/models/ragged/infer", json=[row(1), row(1, 2, 3)]), 422)
    assert times.service_s is not None


async def test_the_error_of_one_row_names_it_and_cancels_the_others(
    http: httpx2.AsyncClient, triton: FakeTriton
) -> None:
    async def reply(inputs: Tensors) -> dict[str, Tensor]:
        if inputs["ids"].shape[1] == 2:
            raise InvalidRequestError("Triton rejected the request: no.", code="refused_by_triton")
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    triton.models["ragged"].respond = reply
    problem = problem_of(await http.post("/models/ragged/infer", json=[row(1), row(1, 2), row(3), row(3, 4)]), 422)
    assert problem["code"] == "refused_by_triton"
    assert problem["detail"].startswith("Rows 1, 3 of the batch failed, so the batch has no response. Triton rejected")
    assert [(each["pointer"], each["code"]) for each in problem["errors"]] == [("#/1", "refused_by_triton")]


async def test_the_error_of_a_field_points_to_the_row(http: httpx2.AsyncClient, triton: FakeTriton) -> None:
    async def reply(inputs: Tensors) -> dict[str, Tensor]:
        if inputs["ids"].shape[1] == 2:
            raise invalid_field("ids", "out_of_range", "`ids` is 2; it must be 1.")
        return dict(inputs)

    triton.models["ragged"].respond = reply
    problem = problem_of(await http.post("/models/ragged/infer", json=[row(1), row(2, 2)]), 422)
    assert [(each["pointer"], each["code"]) for each in problem["errors"]] == [("#/1/ids", "out_of_range")]


async def test_rows_may_differ_only_in_ragged_inputs(http: httpx2.AsyncClient) -> None:
    rows = [row(1) | {"other": [1]}, row(1, 2) | {"other": [1, 2]}]
    problem = problem_of(await http.post("/models/ragged/infer", json=rows), 422)
    assert [(each["pointer"], each["code"]) for each in problem["errors"]] == [("#/1/other", "wrong_shape")]
    problem = problem_of(await http.post("/models/ragged/infer", json=[row(1)] * 5), 422)
    assert "5 rows" in problem["detail"]


async def test_a_shape_tensor_is_sent_once_without_a_batch_dimension(
    http: httpx2.AsyncClient, triton: FakeTriton
) -> None:
    rows = [{"x": [1.0], "size": [3, 4]}, {"x": [2.0], "size": [3, 4]}]
    assert (await http.post("/models/sized/infer", json=rows)).json() == rows
    assert (await http.post("/models/sized/infer", json=rows[0])).json() == rows[0]
    assert shapes(triton, "size") == [(2,), (2,)]
    assert shapes(triton, "x") == [(2, 1), (1, 1)]
    differing = [*rows, {"x": [3.0], "size": [4, 3]}]
    problem = problem_of(await http.post("/models/sized/infer", json=differing), 422)
    assert [(each["pointer"], each["code"]) for each in problem["errors"]] == [("#/2/size", "invalid_value")]
    assert "row 2" in problem["detail"]


async def test_the_description_of_a_model_says_which_inputs_are_uneven(http: httpx2.AsyncClient) -> None:
    ids, word, _ = (await http.get("/models/ragged")).json()["inputs"]
    assert (ids["allow_ragged_batch"], "allow_ragged_batch" in word) == (True, False)
    assert (await http.get("/models/sized")).json()["inputs"][1]["is_shape_tensor"]
    paths = (await http.get("/openapi.json")).json()["paths"]
    assert "The shape of `ids` may differ" in paths["/models/ragged/infer"]["post"]["description"]
    assert "`size` must be the same in all rows" in paths["/models/sized/infer"]["post"]["description"]


async def test_the_slots_are_free_after_a_batch_that_was_cancelled_by_its_deadline(
    http: httpx2.AsyncClient, triton: FakeTriton
) -> None:
    released = asyncio.Event()
    running = 0

    async def reply(inputs: Tensors) -> dict[str, Tensor]:
        nonlocal running
        running += 1
        await released.wait()
        return dict(inputs)

    triton.models["ragged"].respond = reply
    headers = {"X-Request-Timeout": "0.5"}
    late = await http.post("/models/ragged/infer", json=[row(1), row(1, 2), row(1, 2, 3)], headers=headers)
    assert "Row" in problem_of(late, 504)["detail"]
    assert running == 3
    late = await http.post("/models/ragged/infer", json=row(1), headers=headers)
    assert "waited" in problem_of(late, 504)["detail"]  # the requests hold the slots
    released.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (await http.post("/models/ragged/infer", json=row(1))).status_code == 200
