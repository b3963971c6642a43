# SPDX-License-Identifier: Apache-2.0
"""One request of each API family through the request pipeline: the same stages, errors, deadlines and disconnects.

The family `sixth` exists in this test only: it has a `Translation` and nothing else.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive

from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.core.request_record import RequestRecord
from fastapi_triton.endpoints.pipeline import PipelineStage, Translation
from fastapi_triton.endpoints.request_body import raw_body
from fastapi_triton.jobs import dbos_queue
from fastapi_triton.testing import FakeTriton
from fastapi_triton.triton.client import Tensors
from fastapi_triton.triton.datatypes import BY_WIRE
from fastapi_triton.triton.model_config import ModelConfig
from fastapi_triton.triton.tensor import Tensor
from support.app_on_socket import listening
from support.echo_models import model, tensor
from support.received_events import events_of
from support.scribble_app import MODEL, PATH
from support.scripted_stream_model import ScriptedStreamModel, app_of, stream_model_config
from support.scripted_triton import INFER, REQUEST, Upstream, scripted_triton

ALL = ["CAPACITY", "READ", "SLOT", "RUN", "RESPOND"]
SLOTS = 2
SOON, LATER = {"X-Request-Timeout": "0.1"}, {"X-Request-Timeout": "2"}


@dataclass(frozen=True, slots=True)
class Family:
    """An API family and a request to it. `stops`: the model stops when the client disconnects."""

    name: str
    path: str
    body: dict[str, Any]
    model: str = MODEL
    stops: bool = True


FAMILIES = [
    Family("declared", PATH, {}),
    Family("generated", "/models/plain/infer", {"x": 1.0}, "plain", stops=False),
    Family("OpenAI", "/v1/images/generations", {"prompt": "a red house"}),
    Family("A1111", "/sdapi/v1/txt2img", {"prompt": "a red house"}),
    Family("sixth", "/double", {"x": 1.0}, "plain", stops=False),
    Family("/v2", INFER, json.loads(REQUEST), "echo", stops=False),
]


class DoubleTranslation(Translation):
    """The minimum of an API family: runs `plain` on a number, and returns twice its output as text."""

    model = "plain"

    def __init__(self, app: TritonFrontend) -> None:
        self.admission = app.services.admission.of(self.model)
        self._triton = app.triton
        self._number = 0.0

    async def read(self, receive: Receive) -> None:
        self._number = json.loads(await raw_body.read(receive))["x"]

    async def run(self) -> None:
        outputs = await self._triton.infer(self.model, {"x": Tensor.of_one(BY_WIRE["FP32"], self._number, (1,))})
        self._number = 2 * outputs["x"].item()

    async def respond(self) -> Response:
        return PlainTextResponse(str(self._number))


@dataclass(slots=True)
class BlockedModel:
    """A model that waits until a test lets it go on."""

    has_request: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def infer(self, inputs: Tensors) -> dict[str, Tensor]:
        self.has_request.set()
        await self.go_on.wait()
        return dict(inputs)

    async def http(self, upstream: Upstream) -> None:
        while True:
            head, _ = await upstream.request()
            if head.startswith(b"POST /v2/models"):
                self.has_request.set()
                await self.go_on.wait()
            await upstream.respond()


class Recorder:
    """The stages that each request entered."""

    def __init__(self) -> None:
        self.entered: list[tuple[RequestRecord, str]] = []

    def enter(self, record: RequestRecord, stage: PipelineStage) -> None:
        self.entered.append((record, stage.name))

    def request(self, method: str = "POST") -> RequestRecord:
        """The last request of this method."""
        return next(record for record, _ in reversed(self.entered) if record.method == method)

    def stages(self, method: str = "POST") -> list[str]:
        """The stages of the last request of this method."""
        return [stage for record, stage in self.entered if record is self.request(method)]


@pytest.fixture(autouse=True)
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()

    def stage(record: RequestRecord) -> PipelineStage | None:
        return next((PipelineStage[name] for each, name in reversed(recorder.entered) if each is record), None)

    monkeypatch.setattr(RequestRecord, "stage", property(stage, recorder.enter))
    return recorder


@dataclass(slots=True)
class Served:
    """An app with one family's model, and a client."""

    family: Family
    app: TritonFrontend
    client: httpx2.AsyncClient
    backend: Any  # `BlockedModel` or a `ScriptedStreamModel`
    body: dict[str, Any]

    def send(self, headers: dict[str, str] | None = None) -> asyncio.Task[httpx2.Response]:
        return asyncio.create_task(self.client.post(self.family.path, json=self.body, headers=headers))

    @property
    def in_flight(self) -> int:
        return self.app.services.admission.in_flight

    @property
    def waiting(self) -> int:
        return self.app.services.admission.waiting

    @asynccontextmanager
    async def full(self) -> AsyncIterator[None]:
        """Hold all slots of the model."""
        with await self.app.services.admission.of(self.family.model).slot(SLOTS):
            yield


Serve = Callable[..., Any]


@pytest.fixture
def serve(scribble_config: ModelConfig, body: Callable[..., dict[str, Any]]) -> Serve:
    @asynccontextmanager
    async def serve(family: Family, *, hold: bool = False, **settings: Any) -> AsyncIterator[Served]:
        settings = {"max_in_flight": SLOTS, "max_waiting": 0, "watch_interval_s": 3600, **settings}
        async with AsyncExitStack() as running:
            if family.name == "/v2":
                backend: Any = BlockedModel()
                triton = await running.enter_async_context(scripted_triton())
                triton.script = backend.http
                app = TritonFrontend(settings=Settings(triton_url=triton.url, **settings))
            else:
                app, backend = fake_app(scribble_config, Settings(**settings, generate=True), family)
            if not hold:
                backend.go_on.set()
            client = await running.enter_async_context(listening(app))
            if app.generated_models is not None:
                await app.registry.poll()
            yield Served(family, app, client, backend, family.body or body())

    return serve


def fake_app(scribble_config: ModelConfig, settings: Settings, family: Family) -> tuple[TritonFrontend, Any]:
    """An app with every family but `/v2`, and the model that this family runs."""
    stream_model, plain = ScriptedStreamModel(), BlockedModel()
    stream_model.go_on.clear()
    fake = FakeTriton()
    fake.add(scribble_config)
    fake.add(stream_model_config(scribble_config), respond_stream=stream_model)
    fake.add(model("plain", tensor("x")), plain.infer)
    app = app_of(fake, settings)

    @app.post("/double")
    async def double(request: Request) -> Response:
        return await app.services.pipeline.serve(DoubleTranslation(app), request.receive)

    return app, plain if family.model == "plain" else stream_model


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 (there is no event to await)
        await asyncio.sleep(0.001)


by_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


@by_family
async def test_a_request_of_each_family_goes_through_the_same_stages(
    serve: Serve, family: Family, recorder: Recorder
) -> None:
    async with serve(family) as served:
        response = await served.send()
        assert response.status_code == 200, response.text
        assert recorder.stages() == ALL
        assert recorder.request().model == (MODEL if family.stops else family.model)
        assert served.in_flight == 0
        if family.name == "sixth":
            assert response.text == "2.0"


@by_family
async def test_without_capacity_a_request_is_rejected_before_its_body_is_read(
    serve: Serve, family: Family, recorder: Recorder
) -> None:
    async with serve(family) as served, served.full():
        response = await served.send()
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        assert recorder.stages() == ["CAPACITY"]
        assert recorder.request().code == "overloaded"
        assert not served.backend.has_request.is_set()


@by_family
async def test_a_deadline_ends_the_wait_for_a_slot(serve: Serve, family: Family, recorder: Recorder) -> None:
    async with serve(family, max_waiting=1) as served, served.full():
        response = await served.send(SOON)
        assert response.status_code == 504
        assert recorder.stages() == ALL[:3]
        assert recorder.request().code == "deadline_exceeded"
        assert not served.backend.has_request.is_set()
        assert served.waiting == 0


@by_family
async def test_a_deadline_ends_a_run(serve: Serve, family: Family, recorder: Recorder) -> None:
    async with serve(family, hold=True) as served:
        response = await served.send(LATER)
        assert response.status_code == 504
        assert recorder.stages() == ALL[:4]
        assert recorder.request().code == "deadline_exceeded"
        assert served.in_flight == (0 if family.stops else 1)  # Triton has not finished
        served.backend.go_on.set()
        await until(lambda: served.in_flight == 0)


@by_family
async def test_a_disconnect_ends_the_wait_for_a_slot(serve: Serve, family: Family, recorder: Recorder) -> None:
    async with serve(family, max_waiting=1) as served:
        async with served.full():
            pending = served.send()
            await until(lambda: served.waiting == 1)
            pending.cancel()
            await until(lambda: served.waiting == 0)
            await until(lambda: recorder.request().code != "")
        assert recorder.request().code == "caller_left"
        assert recorder.stages() == ALL[:3]
        assert not served.backend.has_request.is_set()
        assert (await served.send()).status_code == 200


@by_family
async def test_a_disconnect_stops_models_that_can_be_stopped(serve: Serve, family: Family, recorder: Recorder) -> None:
    async with serve(family, hold=True) as served:
        pending = served.send()
        await served.backend.has_request.wait()
        pending.cancel()
        if family.stops:
            await until(lambda: served.in_flight == 0)
            await until(lambda: recorder.request().code == "caller_left")
            assert recorder.stages() == ALL[:4]
        else:  # `/infer` does not notice: the slot is held until Triton has finished
            await served.client.get("/health/live")
            assert served.in_flight == 1
        served.backend.go_on.set()
        await until(lambda: served.in_flight == 0)


@pytest.fixture
def jobs_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(dbos_queue, "_POLL_S", 0.02)
    return {"jobs_folder": str(tmp_path / "jobs")}


async def submitted(served: Served) -> str:
    response = await served.send({"Prefer": "respond-async"})
    assert response.status_code == 202, response.text
    path: str = response.headers["location"]
    return path


async def finished_job(served: Served, path: str) -> dict[str, Any]:
    async with served.client.stream("GET", f"{path}/events") as response:
        async for _ in events_of(response):
            pass
    job: dict[str, Any] = (await served.client.get(path)).json()
    return job


@pytest.mark.parametrize("family", FAMILIES[:2], ids=lambda family: family.name)
async def test_a_job_goes_through_the_same_stages(
    serve: Serve, family: Family, recorder: Recorder, jobs_settings: dict[str, Any]
) -> None:
    async with asyncio.timeout(60), serve(family, **jobs_settings) as served:
        job = await finished_job(served, await submitted(served))
        assert job["status"] == "completed"
        assert recorder.stages("JOB") == ALL
        assert recorder.stages("POST") == ["READ"]  # the request that submitted it


async def test_a_job_without_capacity_waits(serve: Serve, recorder: Recorder, jobs_settings: dict[str, Any]) -> None:
    async with asyncio.timeout(60), serve(FAMILIES[0], **jobs_settings) as served:
        async with served.full():
            path = await submitted(served)
            await until(lambda: ("JOB", "CAPACITY") in [(record.method, stage) for record, stage in recorder.entered])
            assert (await served.client.get(path)).json()["status"] == "queued"
        assert (await finished_job(served, path))["status"] == "completed"
        assert set(recorder.stages("JOB")[:-5]) == {"CAPACITY"}
        assert recorder.stages("JOB")[-5:] == ALL


async def test_a_deadline_ends_a_job(serve: Serve, recorder: Recorder, jobs_settings: dict[str, Any]) -> None:
    async with (
        asyncio.timeout(60),
        serve(FAMILIES[0], hold=True, jobs_timeout_s=1, **jobs_settings) as served,
    ):
        path = await submitted(served)
        job = await finished_job(served, path)
        assert (job["status"], job["error"]["code"]) == ("failed", "deadline_exceeded")
        stages = recorder.stages("JOB")  # the deadline counts from the submission
        assert stages == ALL[: len(stages)]
        assert served.in_flight == 0
