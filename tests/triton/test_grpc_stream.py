# SPDX-License-Identifier: Apache-2.0
"""Streams over gRPC, against a scripted server: credentials, cancellation, deadlines, failures and their errors."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest
from pydantic import ValidationError
from tritonclient.grpc import service_pb2, service_pb2_grpc

from fastapi_triton import Settings
from fastapi_triton.core.errors import FastAPITritonError, ModelNotReadyError, TooLargeError, TritonUnavailableError
from fastapi_triton.core.slot import Slot, current_slot
from fastapi_triton.triton import error_mapping, grpc_stream
from fastapi_triton.triton.datatypes import BY_WIRE
from fastapi_triton.triton.grpc_stream import GRPCStreams
from fastapi_triton.triton.model_config import ModelConfig
from fastapi_triton.triton.model_health import ModelProcesses
from fastapi_triton.triton.tensor import Tensor
from support.certificate_authority import Authority
from support.echo_models import model, tensor

CONFIG = model("m", tensor("x", "FP16", (-1, -1)), tensor("s", "BYTES", (-1,)), decoupled=True)
BATCHED = model("m", tensor("x", "FP16", (-1, -1)), decoupled=True, batch=4)
INPUTS = {"x": Tensor(BY_WIRE["FP16"], np.array([[1, 2, 3], [4, 5, np.inf]], np.float16))}

Answer = Callable[[service_pb2.ModelInferRequest, grpc.aio.ServicerContext], AsyncIterator[Any]]


def response(**members: Any) -> service_pb2.ModelStreamInferResponse:
    return service_pb2.ModelStreamInferResponse(**members)


def echo(request: service_pb2.ModelInferRequest) -> service_pb2.ModelStreamInferResponse:
    message = service_pb2.ModelInferResponse(
        model_name=request.model_name, id=request.id, raw_output_contents=request.raw_input_contents
    )
    for each in request.inputs:
        message.outputs.add(name=each.name, datatype=each.datatype, shape=each.shape)
    return response(infer_response=message)


class ScriptedGRPC(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Answers each stream with `answer`, by default its inputs. `ended` is set when a stream has ended."""

    def __init__(self) -> None:
        self.metadata: dict[str, Any] = {}
        self.requests: list[service_pb2.ModelInferRequest] = []
        self.ended = asyncio.Event()
        self.is_cancelled = False
        self.answer: Answer | None = None
        self.version = "2.73.0"
        self.server = grpc.aio.server()
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self.server)

    async def ServerMetadata(self, *_: Any) -> service_pb2.ServerMetadataResponse:  # noqa: N802
        return service_pb2.ServerMetadataResponse(name="triton", version=self.version)

    async def ModelStreamInfer(  # noqa: N802
        self, request_iterator: AsyncIterator[Any], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[Any]:
        self.metadata = dict(context.invocation_metadata())
        try:
            async for request in request_iterator:
                self.requests.append(request)
                if self.answer is None:
                    yield echo(request)
                else:
                    async for each in self.answer(request, context):
                        yield each
        except (asyncio.CancelledError, GeneratorExit):  # GeneratorExit: while gRPC sends a response
            self.is_cancelled = True
            raise
        finally:
            self.ended.set()


@pytest.fixture
async def triton() -> AsyncIterator[ScriptedGRPC]:
    scripted = ScriptedGRPC()
    yield scripted
    await scripted.server.stop(None)


@pytest.fixture
def processes() -> ModelProcesses:
    return ModelProcesses()


@asynccontextmanager
async def connected(
    triton: ScriptedGRPC, processes: ModelProcesses | None = None, **settings: Any
) -> AsyncIterator[GRPCStreams]:
    port = triton.server.add_insecure_port("127.0.0.1:0")
    await triton.server.start()
    streams = client(f"grpc://127.0.0.1:{port}", processes, **settings)
    try:
        yield streams
    finally:
        await streams.close()


def client(
    url: str, processes: ModelProcesses | None = None, *, connect_timeout_s: float = 5, **settings: Any
) -> GRPCStreams:
    access = grpc_stream.Access.of(Settings(**settings))
    return GRPCStreams(url, access, connect_timeout_s=connect_timeout_s, processes=processes or ModelProcesses())


def stream(
    streams: GRPCStreams, config: ModelConfig = CONFIG, *, timeout_s: float = 30, **options: Any
) -> AsyncGenerator[dict[str, Tensor], None]:
    options = {"request_id": "mine", "version": "3", "trace_headers": (), **options}
    return streams.stream(options.pop("inputs", INPUTS), config, timeout_s=timeout_s, **options)


async def collected(responses: AsyncGenerator[dict[str, Tensor], None]) -> list[dict[str, Tensor]]:
    async with aclosing(responses) as each:
        return [outputs async for outputs in each]


async def hang(request: service_pb2.ModelInferRequest, _: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
    yield echo(request)
    await asyncio.Event().wait()


@pytest.mark.parametrize(("config", "outer"), [(CONFIG, []), (BATCHED, [1])], ids=["plain", "batched"])
async def test_tensors_travel_in_their_shapes_and_datatypes(
    triton: ScriptedGRPC, config: ModelConfig, outer: list[int]
) -> None:
    async with connected(triton) as streams:
        (outputs,) = await collected(stream(streams, config))
    (request,) = triton.requests
    assert (request.model_name, request.model_version, request.id) == ("m", "3", "mine")
    assert list(request.inputs[0].shape) == [*outer, 2, 3]
    assert outputs["x"].datatype.wire == "FP16"
    assert outputs["x"].array.tolist() == INPUTS["x"].array.tolist()


async def test_bytes_travel_unchanged(triton: ScriptedGRPC) -> None:
    texts = np.empty(2, np.object_)
    texts[:] = [b"\xff\0", b""]
    async with connected(triton) as streams:
        (outputs,) = await collected(stream(streams, inputs={"s": Tensor(BY_WIRE["BYTES"], texts)}))
    assert outputs["s"].array.tolist() == [b"\xff\0", b""]


async def test_outputs_that_the_config_does_not_have_are_left_out(triton: ScriptedGRPC) -> None:
    async def answer(request: service_pb2.ModelInferRequest, _: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        message = echo(request)
        message.infer_response.outputs.add(name="other", datatype="INT8", shape=[1])
        message.infer_response.raw_output_contents.append(b"\1")
        yield message

    triton.answer = answer
    async with connected(triton) as streams:
        (outputs,) = await collected(stream(streams))
    assert outputs.keys() == {"x"}


async def test_credentials_and_trace_context_are_sent(triton: ScriptedGRPC) -> None:
    settings = {"triton_token": "secret", "triton_headers": "X-Tenant: blue\nHost: elsewhere"}
    async with connected(triton, **settings) as streams:
        await collected(stream(streams, trace_headers=[("Traceparent", "00-1-2-01")]))
    sent = {name: triton.metadata.get(name) for name in ("authorization", "x-tenant", "traceparent", "host")}
    assert sent == {"authorization": "Bearer secret", "x-tenant": "blue", "traceparent": "00-1-2-01", "host": None}


async def test_closing_the_stream_cancels_the_call(triton: ScriptedGRPC) -> None:
    triton.answer = hang
    async with connected(triton) as streams:
        async with aclosing(stream(streams)) as responses:
            await anext(responses)
        await asyncio.wait_for(triton.ended.wait(), 10)
    assert triton.is_cancelled


@pytest.mark.parametrize("is_reading", [False, True])
async def test_an_old_triton_which_may_crash_when_a_stream_is_cancelled_ends_it_itself(
    triton: ScriptedGRPC, monkeypatch: pytest.MonkeyPatch, *, is_reading: bool
) -> None:
    is_warned = asyncio.Event()
    monkeypatch.setattr(grpc_stream, "_LONG_S", 0.01)
    monkeypatch.setattr(grpc_stream.logger, "warning", lambda *_: is_warned.set())
    may_end = asyncio.Event()

    async def answer(request: service_pb2.ModelInferRequest, _: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        yield echo(request)
        await may_end.wait()
        yield echo(request)

    triton.answer, triton.version = answer, "2.51.0"
    released = asyncio.Event()
    slot = Slot(1, since=0.0, free=lambda _: released.set())
    current_slot.set(slot)
    async with connected(triton) as streams:
        async with aclosing(stream(streams)) as responses:
            await anext(responses)
            if is_reading:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(responses), 0.1)
        slot.release()
        await asyncio.wait_for(is_warned.wait(), 10)
        assert not released.is_set()
        may_end.set()
        await asyncio.wait_for(released.wait(), 10)
    assert not triton.is_cancelled


async def test_cancelling_the_task_cancels_the_call(triton: ScriptedGRPC) -> None:
    triton.answer = hang
    async with connected(triton) as streams:
        responses = stream(streams)
        await anext(responses)
        waiting = asyncio.ensure_future(anext(responses))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await asyncio.wait_for(triton.ended.wait(), 10)


async def test_the_deadline_ends_the_call(triton: ScriptedGRPC) -> None:
    triton.answer = hang
    async with connected(triton) as streams:
        with pytest.raises(TimeoutError):
            await collected(stream(streams, timeout_s=0.3))
        await asyncio.wait_for(triton.ended.wait(), 10)


async def test_the_death_of_the_models_process_ends_the_call(triton: ScriptedGRPC, processes: ModelProcesses) -> None:
    triton.answer = hang
    async with connected(triton, processes) as streams:
        responses = stream(streams)
        await anext(responses)
        asyncio.get_running_loop().call_soon(processes.died, "m")
        with pytest.raises(ModelNotReadyError) as raised:
            await anext(responses)
        assert raised.value.code == "model_process_died"
        await asyncio.wait_for(triton.ended.wait(), 10)


async def test_a_broken_connection_is_not_retried(triton: ScriptedGRPC) -> None:
    triton.answer = hang
    async with connected(triton) as streams:
        responses = stream(streams)
        await anext(responses)
        stopping = asyncio.ensure_future(triton.server.stop(None))
        with pytest.raises(FastAPITritonError) as raised:
            await anext(responses)
        await stopping
    assert raised.value.code in ("triton_connection_lost", "cancelled")


async def test_without_a_server_nothing_is_run() -> None:
    streams = client("grpc://127.0.0.1:1", connect_timeout_s=0.2)
    with pytest.raises(TritonUnavailableError, match="gRPC port") as raised:
        await collected(stream(streams))
    assert raised.value.code == TritonUnavailableError.default_code


async def test_streams_that_wait_for_the_same_connection_all_get_the_error() -> None:
    streams = client("grpc://127.0.0.1:1", connect_timeout_s=0.1)
    first = asyncio.ensure_future(collected(stream(streams)))
    await asyncio.sleep(0.05)
    errors = await asyncio.gather(first, collected(stream(streams)), return_exceptions=True)
    assert [type(error) for error in errors] == [TritonUnavailableError] * 2


async def test_closing_the_channel_is_an_error_of_its_streams(
    triton: ScriptedGRPC, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grpc_stream, "_CLOSE_S", 0.0)
    triton.answer = hang
    async with connected(triton) as streams:
        responses = stream(streams)
        await anext(responses)
        reading = asyncio.ensure_future(anext(responses))
        await asyncio.sleep(0)
        await streams.close()
        with pytest.raises(TritonUnavailableError) as raised:
            await reading
    assert raised.value.code == "triton_connection_lost"


async def test_a_triton_of_unknown_version_is_asked_again(triton: ScriptedGRPC) -> None:
    triton.version = "unknown"
    async with connected(triton) as streams:
        assert len(await collected(stream(streams))) == 1
        triton.version, triton.answer = "2.73.0", hang
        triton.ended.clear()
        async with aclosing(stream(streams)) as responses:
            await anext(responses)
        await asyncio.wait_for(triton.ended.wait(), 10)
    assert triton.is_cancelled


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (
            "[request id: mine] unexpected shape for input 'x' for model 'm'. Expected [2], got [1]. ",
            "refused_by_triton",
        ),
        ("unexpected shape for input 'x' for model 'other'. Expected [2], got [1].", "inference_failed"),
        ("Request for unknown model: 'm' version 9 is not found", "model_not_ready"),
        ("[request id: mine] Exceeds maximum queue size", "overloaded"),
        (error_mapping.STOPPING_TEXTS[0], "triton_stopping"),
        ('{"code": "out_of_memory", "detail": "no memory"}', "out_of_memory"),
        ("a secret of the model", "inference_failed"),
    ],
)
async def test_messages_of_triton_and_of_models_have_their_codes(triton: ScriptedGRPC, text: str, code: str) -> None:
    async def fail(*_: Any) -> AsyncIterator[Any]:
        yield response(error_message=text)

    triton.answer = fail
    async with connected(triton) as streams:
        with pytest.raises(FastAPITritonError) as raised:
            await collected(stream(streams))
    assert raised.value.code == code
    assert "secret" not in raised.value.detail


def test_the_message_of_a_dead_process_is_checked() -> None:
    error = error_mapping.rejection("m", "Stub process 'm_0_0' is not healthy.")
    assert isinstance(error, error_mapping.SuspectedDeathError)


@pytest.mark.parametrize("status", [grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED])
async def test_rejected_credentials_are_the_operators_error(triton: ScriptedGRPC, status: grpc.StatusCode) -> None:
    async def deny(_: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        await context.abort(status, "no")
        yield

    triton.answer = deny
    async with connected(triton) as streams:
        with pytest.raises(TritonUnavailableError) as raised:
            await collected(stream(streams))
    assert raised.value.code == "triton_access_denied"


async def test_messages_have_a_limit(triton: ScriptedGRPC, monkeypatch: pytest.MonkeyPatch) -> None:
    async def large(request: service_pb2.ModelInferRequest, _: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        message = echo(request)
        message.infer_response.raw_output_contents[0] = b"\0" * 5000
        yield message

    triton.answer = large
    monkeypatch.setattr(grpc_stream, "MAX_MESSAGE_BYTES", 1000)
    monkeypatch.setattr(grpc_stream, "_OPTIONS", (("grpc.max_receive_message_length", 1000),))
    async with connected(triton) as streams:
        with pytest.raises(FastAPITritonError, match="more than 1,000 bytes") as raised:
            await collected(stream(streams))
        assert raised.value.code == "unreadable_answer"
        with pytest.raises(TooLargeError):
            await collected(stream(streams, inputs={"x": Tensor(BY_WIRE["FP16"], np.zeros((1, 999), np.float16))}))


async def test_tls_with_a_client_certificate(triton: ScriptedGRPC, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server, mine = authority.certificate("localhost").read_bytes(), authority.certificate("frontend")
    credentials = grpc.ssl_server_credentials(
        [(server, server)], authority.ca_file.read_bytes(), require_client_auth=True
    )
    port = triton.server.add_secure_port("127.0.0.1:0", credentials)
    await triton.server.start()
    trusting = {"triton_ca_file": authority.ca_file, "triton_client_cert_file": mine}
    streams = client(f"grpcs://localhost:{port}", **trusting)
    assert len(await collected(stream(streams))) == 1
    await streams.close()
    distrusting = client(f"grpcs://localhost:{port}", connect_timeout_s=0.5)
    with pytest.raises(TritonUnavailableError):
        await collected(stream(distrusting))


@pytest.mark.parametrize("url", ["localhost:8001", "http://localhost:8001", "grpc://localhost", "grpc://a:1/path"])
def test_a_url_of_another_form_is_rejected(url: str) -> None:
    with pytest.raises(ValidationError, match="grpc://host:port"):
        Settings(triton_grpc_url=url)


def test_an_empty_url_is_none() -> None:
    assert Settings(triton_grpc_url="").triton_grpc_url is None
