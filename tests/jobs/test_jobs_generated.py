# SPDX-License-Identifier: Apache-2.0
"""Jobs of generated endpoints: the same answer later; and what becomes of them when their model changes or goes."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.core.errors import InvalidRequestError
from fastapi_triton.core.slot import Slot
from fastapi_triton.endpoints.generated.endpoint import InferPath
from fastapi_triton.testing import FakeTriton
from fastapi_triton.triton.client import ModelStatus, Tensors
from fastapi_triton.triton.datatypes import BY_WIRE
from fastapi_triton.triton.model_config import ModelConfig, TensorConfig
from fastapi_triton.triton.tensor import Tensor
from support.jobs_client import ASYNC, Client

X, V = TensorConfig("x", BY_WIRE["FP32"], (1,)), TensorConfig("v", BY_WIRE["FP32"], (-1,), optional=True)
SEED = TensorConfig("seed", BY_WIRE["INT32"], (1,), optional=True)
PLAIN = "/models/plain/infer"
SLOTS = 5


async def echo(inputs: Tensors) -> dict[str, Tensor]:
    return dict(inputs)


@pytest.fixture
def triton() -> FakeTriton:
    fake = FakeTriton()
    fake.add(ModelConfig("plain", 0, (X, V), (X, V)), echo)
    fake.add(ModelConfig("draws", 4, (X, SEED), (X, SEED)), echo)
    fake.add(ModelConfig("stream", 0, (X,), (X,), decoupled=True), respond_stream=None)
    return fake


@pytest.fixture
def frontend(triton: FakeTriton, tmp_path: Path) -> Callable[[], Any]:
    """An app, from its start to its end; one at a time."""

    @asynccontextmanager
    async def run() -> AsyncIterator[tuple[TritonFrontend, Client]]:
        settings = Settings(
            generate=True,
            watch_interval_s=3600,
            jobs_folder=str(tmp_path / "jobs"),
            max_in_flight=SLOTS,
            max_waiting=0,
        )
        app = TritonFrontend(triton=triton, settings=settings)
        transport = httpx2.ASGITransport(app=app)
        async with (
            asyncio.timeout(60),
            app.router.lifespan_context(app),
            httpx2.AsyncClient(transport=transport, base_url="http://test") as http,
        ):
            await app.registry.poll()
            yield app, Client(http, dict)

    return run


@pytest.fixture
async def running(frontend: Callable[[], Any]) -> AsyncIterator[tuple[TritonFrontend, Client]]:
    async with frontend() as both:
        yield both


async def accepted(client: Client, path: str, body: Any, headers: dict[str, str] | None = None) -> str:
    answer = await client.http.post(path, json=body, headers={**ASYNC, **(headers or {})})
    assert answer.status_code == 202, answer.text
    return answer.headers["location"]


async def waiting(app: TritonFrontend, client: Client) -> tuple[str, Slot]:
    """A job that waits, since every slot is taken; and what frees them."""
    slot = await app.services.admission.of("plain").slot(SLOTS)
    job = await accepted(client, PLAIN, {"x": 1, "v": [2, 3]})
    await client.when(job, lambda told: bool(told["waits_for"]))
    return job, slot


async def test_a_job_answers_what_the_endpoint_does(running: tuple[TritonFrontend, Client]) -> None:
    _, client = running
    body = {"x": 0.5, "v": [1, 2]}
    paths = (PLAIN, "/models/plain/versions/1/infer", f"{PLAIN}?arrays=npy")
    for path, job in [(path, await accepted(client, path, body)) for path in paths]:
        told = await client.over(job)
        assert (told["status"], told["endpoint"], told["runs"], told["step"]) == ("completed", path, 1, None)
        assert (await client.get(f"{job}/result")).json() == (await client.http.post(path, json=body)).json()
        (event,) = await client.events(job)
        assert (event.name, event.data) == ("completed", (await client.get(f"{job}/result")).json())
    assert (await client.get(f"{job}/result", "image/png")).status_code == 406


async def test_what_is_wrong_is_told_at_once_and_makes_no_job(running: tuple[TritonFrontend, Client]) -> None:
    _, client = running
    for body, status, code in (
        (b'{"x": "a"}', 422, "wrong_type"),
        (b"{", 400, "invalid_json"),
        (b"{}", 422, "missing_field"),
    ):
        answer = await client.http.post(PLAIN, content=body, headers=ASYNC)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
    answer = await client.http.post(PLAIN, content=b"x=1", headers={**ASYNC, "Content-Type": "text/plain"})
    assert answer.status_code == 415
    assert (await client.http.post("/models/nobody/infer", json={}, headers=ASYNC)).status_code == 404


async def test_a_request_with_a_key_is_run_once_however_it_is_written(
    running: tuple[TritonFrontend, Client], triton: FakeTriton
) -> None:
    _, client = running
    answers = [
        await client.http.post(PLAIN, content=body, headers={"Idempotency-Key": "one"})
        for body in (b'{"x": 1, "v": [2]}', b'{"v":[2],"x":1}')
    ]
    assert [answer.json() for answer in answers] == [{"x": 1.0, "v": [2.0]}] * 2
    assert len(triton.requests) == 1
    other = await client.http.post(f"{PLAIN}?arrays=npy", json={"x": 1, "v": [2]}, headers={"Idempotency-Key": "one"})
    assert other.json()["code"] == "idempotency_key_reused"
    # More than any datatype holds is told, and is no bug of ours.
    answer = await client.http.post("/models/draws/infer", json={"x": 10**30}, headers={"Idempotency-Key": "large"})
    assert answer.status_code in (200, 422)


async def test_the_seeds_that_are_left_to_the_model_are_drawn_once(
    running: tuple[TritonFrontend, Client], triton: FakeTriton
) -> None:
    _, client = running
    bodies = ({"x": 1}, {"x": 1, "seed": -1}, [{"x": 1, "seed": 7}, {"x": 2, "seed": -1}], [{"x": 1}, {"x": 2}])
    jobs = [await accepted(client, "/models/draws/infer", body) for body in bodies]
    jobs.append(await accepted(client, PLAIN, {"x": 1}))  # which knows no seed
    for job in jobs:
        assert (await client.over(job))["status"] == "completed"
    drawn = [int(seed) for _, inputs, _ in triton.requests if "seed" in inputs for seed in inputs["seed"].array.ravel()]
    assert len(drawn) == len(set(drawn)) == 6
    assert 7 in drawn
    assert all(0 <= seed < 2**31 for seed in drawn)


@pytest.mark.slow  # as jobs of declared endpoints do, which every run tests
async def test_one_that_was_interrupted_runs_again_with_its_seed_when_the_frontend_starts_again(
    frontend: Callable[[], Any], triton: FakeTriton
) -> None:
    is_running = asyncio.Event()

    async def hold(_: Tensors) -> dict[str, Tensor]:
        is_running.set()
        return await asyncio.Future()

    triton.models["draws"].respond = hold
    async with frontend() as (_, client):
        job = await accepted(client, "/models/draws/infer", {"x": 1})
        await is_running.wait()
    triton.models["draws"].respond = echo
    async with frontend() as (_, client):
        told = await client.over(job)
        assert (told["status"], told["runs"]) == ("completed", 2)
        first, second = (inputs["seed"].array.item() for _, inputs, _ in triton.requests)
        assert first == second == (await client.get(f"{job}/result")).json()["seed"]


async def test_a_model_that_was_unloaded_fails_its_job(
    running: tuple[TritonFrontend, Client], triton: FakeTriton
) -> None:
    app, client = running
    job, slot = await waiting(app, client)
    triton.models["plain"].is_ready = False
    await app.registry.poll()
    slot.release()
    told = await client.over(job)
    assert (told["status"], told["error"]["status"], told["error"]["code"]) == ("failed", 410, "endpoint_gone")
    assert (await client.get(f"{job}/result")).json()["code"] == "endpoint_gone"


async def test_one_that_is_no_longer_in_the_repository_fails_it_too(
    running: tuple[TritonFrontend, Client], triton: FakeTriton
) -> None:
    app, client = running
    job, slot = await waiting(app, client)
    del triton.models["plain"]
    await app.registry.poll()
    slot.release()
    assert (await client.over(job))["error"]["code"] == "endpoint_gone"


async def test_one_that_loads_or_is_away_with_triton_is_waited_for(
    running: tuple[TritonFrontend, Client], triton: FakeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, client = running
    triton.is_running = False
    job = await accepted(client, PLAIN, {"x": 1})
    await client.when(job, lambda told: told["waits_for"] == "Triton does not respond.")
    triton.is_running = True
    triton.models["plain"].is_ready = False

    async def index(_: FakeTriton) -> list[ModelStatus]:
        return [ModelStatus("plain", "1", "LOADING")]

    with monkeypatch.context() as patched:
        patched.setattr(FakeTriton, "index", index)
        await app.registry.poll()
    await client.when(job, lambda told: "is not ready" in (told["waits_for"] or ""))
    triton.models["plain"].is_ready = True
    await app.registry.poll()
    assert (await client.over(job))["status"] == "completed"


async def test_a_contract_that_takes_the_request_no_more_fails_its_job(
    running: tuple[TritonFrontend, Client], triton: FakeTriton
) -> None:
    app, client = running
    job, slot = await waiting(app, client)
    triton.add(ModelConfig("plain", 0, (X,), (X,)), echo)  # `v` is gone
    app.registry.doubt("plain")
    await app.registry.poll()
    slot.release()
    told = await client.over(job)
    assert (told["status"], told["error"]["status"], told["error"]["code"]) == ("failed", 410, "endpoint_changed")
    assert "`v`" in told["error"]["detail"]


async def test_what_the_model_refuses_fails_the_job_as_it_would_fail_a_request(
    running: tuple[TritonFrontend, Client], triton: FakeTriton
) -> None:
    _, client = running

    async def refuse(_: Tensors) -> dict[str, Tensor]:
        raise InvalidRequestError("Say it nicely.", code="too_rude")

    triton.models["plain"].respond = refuse
    told = await client.over(await accepted(client, PLAIN, {"x": 1}))
    assert (told["status"], told["error"]["status"], told["error"]["code"]) == ("failed", 422, "too_rude")


async def test_the_document_says_which_endpoints_have_jobs(running: tuple[TritonFrontend, Client]) -> None:
    _, client = running
    paths = (await client.get("/openapi.json")).json()["paths"]
    assert {"202", "429"} <= paths[PLAIN]["post"]["responses"].keys()
    assert "Prefer" in {each["name"] for each in paths[PLAIN]["post"]["parameters"]}
    assert "202" not in paths["/models/stream/infer"]["post"]["responses"]


@pytest.mark.parametrize(
    "address",
    [InferPath("a"), InferPath("a b/c?d", "1"), InferPath("ä", arrays="npy"), InferPath("infer", "2", "base64")],
)
def test_a_path_leads_back_to_its_address(address: InferPath) -> None:
    assert InferPath.of(address.path) == address


@pytest.mark.parametrize("path", ["/models/a", "/models/a/infer?arrays=x", "/models/a/infer/b", "/x", ""])
def test_other_paths_lead_nowhere(path: str) -> None:
    assert InferPath.of(path) is None
