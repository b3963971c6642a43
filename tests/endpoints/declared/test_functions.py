# SPDX-License-Identifier: Apache-2.0
"""An app's function around a model: in the event loop or in a thread, its contract, errors and slots."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx2
import numpy as np
import pytest
from fastapi import HTTPException
from pydantic import BaseModel

from fastapi_triton import BlockingInfer, Infer, Settings, TensorName, TritonFrontend
from fastapi_triton.core.context import current_request_id
from fastapi_triton.core.errors import InvalidRequestError
from fastapi_triton.testing import FakeTriton
from fastapi_triton.triton.client import Tensors
from fastapi_triton.triton.datatypes import BY_CONFIG, BY_WIRE
from fastapi_triton.triton.model_config import ModelConfig, TensorConfig
from fastapi_triton.triton.tensor import Tensor
from support.app_on_socket import listening

CONFIG = ModelConfig(
    name="mood",
    max_batch_size=4,
    inputs=(TensorConfig("input.ids", BY_CONFIG["TYPE_INT32"], (-1,)),),
    outputs=(TensorConfig("logits", BY_CONFIG["TYPE_FP32"], (2,)),),
)


class Text(BaseModel):
    text: str


class Mood(BaseModel):
    score: float


class Tokens(BaseModel):
    ids: Annotated[list[int], TensorName("input.ids")]


class Logits(BaseModel):
    logits: list[float]


async def count(inputs: Tensors) -> dict[str, Tensor]:
    """The number of tokens, and twice that number."""
    num_tokens = inputs["input.ids"].array.shape[1]
    return {"logits": Tensor(BY_WIRE["FP32"], np.array([[num_tokens, 2 * num_tokens]], np.float32))}


def tokens_of(request: Text) -> Tokens:
    return Tokens(ids=[ord(each) for each in request.text])


@pytest.fixture
def triton() -> FakeTriton:
    fake = FakeTriton()
    fake.add(CONFIG, count)
    return fake


@pytest.fixture
def app(triton: FakeTriton) -> TritonFrontend:
    return TritonFrontend(triton=triton, settings=Settings(max_in_flight=2, max_waiting=0))


@asynccontextmanager
async def client_of(app: TritonFrontend) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with app.router.lifespan_context(app), httpx2.AsyncClient(transport=transport, base_url="http://t") as http:
        yield http


async def test_an_async_function_works_before_and_after_the_model(app: TritonFrontend, triton: FakeTriton) -> None:
    @app.infer("/mood", model="mood")
    async def mood(request: Text, infer: Infer[Tokens, Logits]) -> Mood:
        """How it feels."""
        outputs = await infer(tokens_of(request))
        return Mood(score=outputs.logits[1])

    async with client_of(app) as client:
        response = await client.post("/mood", json={"text": "abc"})
        document = (await client.get("/openapi.json")).json()
    assert response.json() == {"score": 6.0}
    assert triton.requests[0][1]["input.ids"].array.tolist() == [[97, 98, 99]]
    assert document["paths"]["/mood"]["post"]["description"] == "How it feels."
    assert set(document["components"]["schemas"]) == {"Problem", "Text", "Mood"}  # no schemas of the model's tensors


async def test_a_plain_function_runs_in_a_thread_and_does_not_block_the_event_loop(app: TritonFrontend) -> None:
    go_on, threads = threading.Event(), []

    @app.infer("/mood", model="mood")
    def mood(request: Text, infer: BlockingInfer[Tokens, Logits]) -> Mood:
        threads.append((threading.current_thread(), current_request_id.get()))
        assert go_on.wait(30)
        return Mood(score=infer(tokens_of(request)).logits[0])

    async with client_of(app) as client:
        pending = asyncio.create_task(client.post("/mood", json={"text": "ab"}, headers={"X-Request-ID": "r1"}))
        assert (await client.get("/health/ready")).status_code == 200
        go_on.set()
        assert (await pending).json() == {"score": 2.0}
    ((thread, request_id),) = threads
    assert thread is not threading.main_thread()
    assert request_id == "r1"


async def test_the_functions_tensors_are_compared_with_the_config(app: TritonFrontend) -> None:
    class Wrong(BaseModel):
        ids: list[float]

    @app.infer("/mood", model="mood")
    async def mood(request: Text, infer: Infer[Wrong, Logits]) -> Mood:
        raise AssertionError("never called")

    async with client_of(app) as client:
        response = await client.post("/mood", json={"text": "abc"})
    assert (response.status_code, response.json()["code"]) == (503, "contract_mismatch")
    assert "`Wrong.ids`: the model mood has no input of that name" in response.json()["detail"]


async def test_a_request_that_runs_the_model_many_times_holds_one_slot(app: TritonFrontend) -> None:
    in_flight = []

    @app.infer("/mood", model="mood")
    async def mood(request: Text, infer: Infer[Tokens, Logits]) -> Mood:
        outputs = await asyncio.gather(*(infer(tokens_of(request)) for _ in range(5)))
        in_flight.append(app.services.admission.in_flight)
        return Mood(score=sum(each.logits[0] for each in outputs))

    async with client_of(app) as client:
        assert (await client.post("/mood", json={"text": "a"})).json() == {"score": 5.0}
    assert in_flight == [1]
    assert app.services.admission.in_flight == 0


async def test_errors_of_the_model_name_no_tensor_that_the_client_does_not_know(
    app: TritonFrontend, triton: FakeTriton
) -> None:
    @app.infer("/mood", model="mood")
    async def mood(request: Text, infer: Infer[Tokens, Logits]) -> Mood:
        return Mood(score=(await infer(Tokens(ids=[2**40]))).logits[0])

    async with client_of(app) as client:
        response = await client.post("/mood", json={"text": "a"})
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == "#"
    assert triton.requests == []


async def test_a_functions_errors_become_problem_responses(app: TritonFrontend) -> None:
    @app.infer("/mood", model="mood")
    async def mood(request: Text, infer: Infer[Tokens, Logits]) -> Mood:
        if request.text == "teapot":
            raise HTTPException(418, "short and stout")
        if request.text == "rude":
            raise InvalidRequestError("Say it nicely.", code="too_rude")
        raise ValueError("a bug")

    async with client_of(app) as client:
        responses = [await client.post("/mood", json={"text": each}) for each in ("teapot", "rude", "bug")]
    assert [(each.status_code, each.json()["code"]) for each in responses] == [
        (418, "i'm_a_teapot"),
        (422, "too_rude"),
        (500, "internal_error"),
    ]


async def test_the_functions_result_is_validated_by_the_response_model(app: TritonFrontend) -> None:
    @app.infer("/mood", model="mood")
    async def mood(request: Text, infer: Infer[Tokens, Logits]) -> Mood:
        return {"score": request.text}  # type: ignore[return-value]

    async with client_of(app) as client:
        assert (await client.post("/mood", json={"text": "1.5"})).json() == {"score": 1.5}
        assert (await client.post("/mood", json={"text": "high"})).status_code == 500


async def no_hints(request, infer):  # type: ignore[no-untyped-def]
    pass


async def three(request: Text, infer: Infer[Tokens, Logits], more: int) -> Mood:
    raise NotImplementedError


async def blocking_in_async(request: Text, infer: BlockingInfer[Tokens, Logits]) -> Mood:
    raise NotImplementedError


def async_in_plain(request: Text, infer: Infer[Tokens, Logits]) -> Mood:
    raise NotImplementedError


async def no_model(request: str, infer: Infer[Tokens, Logits]) -> Mood:
    raise NotImplementedError


async def no_response(request: Text, infer: Infer[Tokens, Logits]) -> None:
    raise NotImplementedError


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (no_hints, "no_hints has the parameters (request, infer): write it as"),
        (three, "three has the parameters (request, infer, more)"),
        (blocking_in_async, "`infer` must be a Infer[Inputs, Outputs]"),
        (async_in_plain, "`infer` must be a BlockingInfer[Inputs, Outputs]"),
        (no_model, "its request is <class 'str'>"),
        (no_response, "its response is"),
    ],
)
def test_an_incomplete_signature_is_rejected_at_once(
    app: TritonFrontend, function: Callable[..., Any], words: str
) -> None:
    with pytest.raises(TypeError) as error:
        app.infer("/mood", model="mood")(function)
    assert words in str(error.value)
    assert app.endpoints == []


def test_a_request_without_a_response_is_rejected(app: TritonFrontend) -> None:
    with pytest.raises(TypeError, match="pass both request= and response="):
        app.infer("/mood", model="mood", request=Text)  # type: ignore[call-overload]


STREAM_CONFIG = ModelConfig(
    name="mood_stream",
    max_batch_size=0,
    inputs=CONFIG.inputs,
    outputs=(*CONFIG.outputs, TensorConfig("event", BY_CONFIG["TYPE_STRING"], (1,))),
    decoupled=True,
)


async def test_a_disconnect_from_a_plain_function_stops_the_model_and_frees_the_slot_when_the_thread_has_ended(
    app: TritonFrontend, triton: FakeTriton, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    begun, ended, may_end = asyncio.Event(), threading.Event(), threading.Event()

    async def forever(inputs: Tensors) -> AsyncIterator[dict[str, Tensor]]:
        begun.set()
        await asyncio.Event().wait()
        yield {}

    triton.add(STREAM_CONFIG, respond_stream=forever)  # type: ignore[arg-type]

    @app.infer("/mood", model="mood", stream_model="mood_stream")
    def mood(request: Text, infer: BlockingInfer[Tokens, Logits]) -> Mood:
        try:
            return Mood(score=infer(tokens_of(request)).logits[0])
        finally:
            assert may_end.wait(30)
            ended.set()

    async with listening(app) as client:
        pending = asyncio.create_task(client.post("/mood", json={"text": "a"}))
        await begun.wait()
        pending.cancel()
        await asyncio.gather(pending, return_exceptions=True)
        await triton.streams[0].ended.wait()
        assert app.services.admission.in_flight == 1  # the thread is still busy
        may_end.set()
        assert await asyncio.to_thread(ended.wait, 30)
    assert triton.streams[0].is_closed_early
    assert app.services.admission.in_flight == 0
