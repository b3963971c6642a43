# SPDX-License-Identifier: Apache-2.0
"""Jobs of generated endpoints, and what happens to them when their model changes or is removed."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.core.errors import InvalidRequestError
from fastapi_triton.core.slot import Slot
from fastapi_triton.endpoints.generated.infer_path import InferOptions, InferPath
from fastapi_triton.testing import FakeTriton
from fastapi_triton.triton.client import ModelStatus, Tensors
from fastapi_triton.triton.datatypes import BY_WIRE
from fastapi_triton.triton.model_config import ModelConfig, TensorConfig
from fastapi_triton.triton.tensor import Tensor
from support.jobs_client import ASYNC, Client
from support.picture_bombs import as_file, drawing

X, V = TensorConfig("x", BY_WIRE["FP32"], (1,)), TensorConfig("v", BY_WIRE["FP32"], (-1,), optional=True)
IMAGE = TensorConfig("image", BY_WIRE["FP32"], (3, -1, -1))
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
    fake.add(ModelConfig("paints", 4, (IMAGE,), (IMAGE,)), echo)
    fake.add(ModelConfig("stream", 0, (X,), (X,), decoupled=True), respond_stream=None)
    return fake


@pytest.fixture
def frontend(triton: FakeTriton, tmp_path: Path) -> Callable[[], Any]:
    """Runs an app and gives it with a client. One app at a time."""

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
    response = await client.http.post(path, json=body, headers={**ASYNC, **(headers or {})})
    assert response.status_code == 202, response.text
    return response.headers["location"]


async def waiting(app: TritonFrontend, client: Client) -> tuple[str, Slot]:
    """A job that waits because all slots are taken, and the slots."""
    slot = await app.services.admission.of("plain").slot(SLOTS)
    job = await accepted(client, PLAIN, {"x": 1, "v": [2, 3]})
    await client.until(job, lambda state: bool(state["waits_for"]))
    return job, slot


async def test_the_result_of_a_job_is_the_response_of_its_endpoint(running: tuple[TritonFrontend, Client]) -> None:
    _, client = running
    body = {"x": 0.5, "v": [1, 2]}
    paths = (PLAIN, "/models/plain/versions/1/infer", f"{PLAIN}?arrays=npy")
    for path, job in [(path, await accepted(client, path, body)) for path in paths]:
        state = await client.finished(job)
        assert (state["status"], state["endpoint"], state["runs"], state["step"]) == ("completed", path, 1, None)
        assert (await client.get(f"{job}/result")).json() == (await client.http.post(path, json=body)).json()
        (event,) = await client.events(job)
        assert (event.name, event.data) == ("completed", (await client.get(f"{job}/result")).json())
    assert (await client.get(f"{job}/result", "image/png")).status_code == 406


async def test_an_invalid_request_is_rejected_and_makes_no_job(running: tuple[TritonFrontend, Client]) -> None:
    _, client = running
    for body, status, code in (
        (b'{"x": "a"}', 422, "wrong_type"),
        (b"{", 400, "invalid_json"),
        (b"{}", 422, "missing_field"),
    ):
        response = await client.http.post(PLAIN, content=body, headers=ASYNC)
        assert (response.status_code, response.json()["code"]) == (status, code)
    response = await client.http.post(PLAIN, content=b"x=1", headers={**ASYNC, "Content-Type": "text/plain"})
    assert response.status_code == 415
    assert (await client.http.post("/models/nobody/infer", json={}, headers=ASYNC)).status_code == 404


async def test_equal_requests_with_a_key_run_once(running: tuple[TritonFrontend, Client], triton: FakeTriton) -> None:
    _, client = running
    responses = [
        await client.http.post(PLAIN, content=body, headers={"Idempotency-Key": "one"})
        for body in (b'{"x": 1, "v": [2]}', b'{"v":[2],"x":1}')
    ]
    assert [response.json() for response in responses] == [{"x": 1.0, "v": [2.0]}] * 2
    assert len(triton.requests) == 1
    other = await client.http.post(f"{PLAIN}?arrays=npy", json={"x": 1, "v": [2]}, headers={"Idempotency-Key": "one"})
    assert other.json()["code"] == "idempotency_key_reused"
    # A number that fits no datatype is not an internal error.
    response = await client.http.post("/models/draws/infer", json={"x": 10**30}, headers={"Idempotency-Key": "large"})
    assert response.status_code in (200, 422)


async def test_jobs_take_forms_and_return_pictures(running: tuple[TritonFrontend, Client], triton: FakeTriton) -> None:
    _, client = running
    picture = as_file(drawing().convert("RGB"))
    path, files = "/models/paints/infer", {"image": ("photo.png", picture)}
    response = await client.http.post(path, files=files, headers={**ASYNC, "Accept": "image/png"})
    job = response.headers["location"]
    assert (await client.finished(job))["endpoint"] == f"{path}?arrays=png"
    returned = await client.get(f"{job}/result", "image/png")
    assert returned.headers["content-type"] == "image/png"
    assert list((await client.get(f"{job}/result")).json()) == ["image"]
    # A form and the JSON of the same request are equal. The second is not run.
    keyed = {"Idempotency-Key": "one"}
    first = await client.http.post(f"{path}?arrays=png&normalize=none", files=files, headers=keyed)
    body = {"image": base64.b64encode(picture).decode()}
    second = await client.http.post(f"{path}?arrays=png&normalize=none", json=body, headers=keyed)
    assert first.json() == second.json() == {"image": base64.b64encode(returned.content).decode()}
    assert len(triton.requests) == 2
    assert triton.requests[-1][1]["image"].array.max() == 255
    other = await client.http.post(f"{path}?arrays=png", files=files, headers=keyed)
    assert other.json()["code"] == "idempotency_key_reused"
    # A client that waits for its job gets the picture, too.
    waited = await client.http.post(path, files=files, headers={"Idempotency-Key": "two", "Accept": "image/png"})
    assert waited.content == returned.content
    batch = await client.http.post(path, json=[body] * 2, headers={**ASYNC, "Accept": "image/png"})
    assert batch.status_code == 406
    plain = await accepted(client, path, body)
    await client.finished(plain)
    assert (await client.get(f"{plain}/result", "image/png")).status_code == 406


async def test_a_job_fails_if_its_model_takes_no_pictures_any_more(
    running: tuple[TritonFrontend, Client], triton: FakeTriton
) -> None:
    app, client = running
    slot = await app.services.admission.of("paints").slot(SLOTS)
    body = {"image": base64.b64encode(as_file(drawing())).decode()}
    job = await accepted(client, "/models/paints/infer?normalize=none", body)
    await client.until(job, lambda state: bool(state["waits_for"]))
    triton.add(ModelConfig("paints", 4, (X,), (X,)), echo)
    app.registry.doubt("paints")
    await app.registry.poll()
    slot.release()
    state = await client.finished(job)
    assert (state["status"], state["error"]["code"]) == ("failed", "endpoint_changed")


async def test_missing_seeds_are_drawn_once(running: tuple[TritonFrontend, Client], triton: FakeTriton) -> None:
    _, client = running
    bodies = ({"x": 1}, {"x": 1, "seed": -1}, [{"x": 1, "seed": 7}, {"x": 2, "seed": -1}], [{"x": 1}, {"x": 2}])
    jobs = [await accepted(client, "/models/draws/infer", body) for body in bodies]
    jobs.append(await accepted(client, PLAIN, {"x": 1}))  # it has no seed
    for job in jobs:
        assert (await client.finished(job))["status"] == "completed"
    drawn = [int(seed) for _, inputs, _ in triton.requests if "seed" in inputs for seed in inputs["seed"].array.ravel()]
    assert len(drawn) == len(set(drawn)) == 6
    assert 7 in drawn
    assert all(0 <= seed < 2**31 for seed in drawn)


@pytest.mark.slow  # every run has the same test for declared endpoints
async def test_an_interrupted_job_runs_again_with_its_seed_after_a_restart(
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
        state = await client.finished(job)
        assert (state["status"], state["runs"]) == ("completed", 2)
        first, second = (inputs["seed"].array.item() for _, inputs, _ in triton.requests)
        assert first == second == (await client.get(f"{job}/result")).json()["seed"]


async def test_a_job_fails_if_its_model_was_unloaded(
    running: tuple[TritonFrontend, Client], triton: FakeTriton
) -> None:
    app, client = running
    job, slot = await waiting(app, client)
    triton.models["plain"].is_ready = False
    await app.registry.poll()
    slot.release()
    state = await client.finished(job)
    assert (state["status"], state["error"]["status"], state["error"]["code"]) == ("failed", 410, "endpoint_gone")
    assert (await client.get(f"{job}/result")).json()["code"] == "endpoint_gone"


async def test_a_job_fails_if_its_model_was_removed_from_the_repository(
    running: tuple[TritonFrontend, Client], triton: FakeTriton
) -> None:
    app, client = running
    job, slot = await waiting(app, client)
    del triton.models["plain"]
    await app.registry.poll()
    slot.release()
    assert (await client.finished(job))["error"]["code"] == "endpoint_gone"


async def test_a_job_waits_for_triton_and_for_a_loading_model(
    running: tuple[TritonFrontend, Client], triton: FakeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, client = running
    triton.is_running = False
    job = await accepted(client, PLAIN, {"x": 1})
    await client.until(job, lambda state: state["waits_for"] == "Triton does not respond.")
    triton.is_running = True
    triton.models["plain"].is_ready = False

    async def index(_: FakeTriton) -> list[ModelStatus]:
        return [ModelStatus("plain", "1", "LOADING")]

    with monkeypatch.context() as patched:
        patched.setattr(FakeTriton, "index", index)
        await app.registry.poll()
    await client.until(job, lambda state: "is not ready" in (state["waits_for"] or ""))
    triton.models["plain"].is_ready = True
    await app.registry.poll()
    assert (await client.finished(job))["status"] == "completed"


async def test_a_job_fails_if_its_request_no_longer_fits_the_model(
    running: tuple[TritonFrontend, Client], triton: FakeTriton
) -> None:
    app, client = running
    job, slot = await waiting(app, client)
    triton.add(ModelConfig("plain", 0, (X,), (X,)), echo)  # `v` was removed
    app.registry.doubt("plain")
    await app.registry.poll()
    slot.release()
    state = await client.finished(job)
    assert (state["status"], state["error"]["status"], state["error"]["code"]) == ("failed", 410, "endpoint_changed")
    assert "`v`" in state["error"]["detail"]


async def test_a_job_fails_with_the_error_of_its_model(
    running: tuple[TritonFrontend, Client], triton: FakeTriton
) -> None:
    _, client = running

    async def fail(_: Tensors) -> dict[str, Tensor]:
        raise InvalidRequestError("Say it nicely.", code="too_rude")

    triton.models["plain"].respond = fail
    state = await client.finished(await accepted(client, PLAIN, {"x": 1}))
    assert (state["status"], state["error"]["status"], state["error"]["code"]) == ("failed", 422, "too_rude")


async def test_the_openapi_document_says_which_endpoints_have_jobs(running: tuple[TritonFrontend, Client]) -> None:
    _, client = running
    paths = (await client.get("/openapi.json")).json()["paths"]
    assert {"202", "429"} <= paths[PLAIN]["post"]["responses"].keys()
    assert "Prefer" in {each["name"] for each in paths[PLAIN]["post"]["parameters"]}
    assert "202" not in paths["/models/stream/infer"]["post"]["responses"]


@pytest.mark.parametrize(
    "address",
    [
        InferPath("a"),
        InferPath("a b/c?d", "1"),
        InferPath("ä", options=InferOptions(arrays="npy")),
        InferPath("infer", "2", InferOptions(arrays="base64", classes=3)),
        InferPath("a", "", InferOptions(arrays="png", normalize="unit")),
    ],
)
def test_an_infer_path_is_parsed_from_its_own_text(address: InferPath) -> None:
    assert InferPath.of(address.path) == address


@pytest.mark.parametrize(
    "path",
    [
        "/models/a",
        "/models/a/infer?arrays=x",
        "/models/a/infer?normalize=x",
        "/models/a/infer?b=c",
        "/models/a/infer?classes=03",
        "/models/a/infer?classes=0",
        "/models/a/infer?classes=x",
        "/models/a/infer?arrays=list",
        "/models/a/infer/b",
        "/x",
        "",
    ],
)
def test_other_paths_are_not_infer_paths(path: str) -> None:
    assert InferPath.of(path) is None
