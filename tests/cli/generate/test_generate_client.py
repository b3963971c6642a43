# SPDX-License-Identifier: Apache-2.0
"""The client of `generate` with servers that reject requests, cut responses off, or send invalid data."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import aiohttp
import pytest

from fastapi_triton import Settings
from fastapi_triton.cli.generate import errors
from fastapi_triton.cli.generate.client import Client, GeneratedPicture, StepProgress
from fastapi_triton.cli.generate.errors import GenerateError, NoServerError, NothingListensError
from fastapi_triton.core.errors import FieldProblem, InferenceError, InvalidRequestError, OverloadedError
from fastapi_triton.testing import FakeTriton
from fastapi_triton.triton.model_config import ModelConfig
from support.app_on_socket import listening
from support.scripted_stream_model import ScriptedStreamModel, app_of

HEAD = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
ScriptedApp = Callable[[str], AbstractAsyncContextManager[Client]]


def chunk(text: str) -> str:
    return f"{len(text.encode()):x}\r\n{text}\r\n"


@pytest.fixture
def responding() -> ScriptedApp:
    """A server that sends the same response to every request and closes the connection."""

    @asynccontextmanager
    async def make(response: str) -> AsyncIterator[Client]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(response.encode())
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, aiohttp.ClientSession() as session:
            yield Client(session, f"http://127.0.0.1:{port}", "/draw")

    return make


@pytest.fixture
def stream_model() -> ScriptedStreamModel:
    return ScriptedStreamModel()


@pytest.fixture
async def frontend(
    scribble_config: ModelConfig, stream_config: ModelConfig, stream_model: ScriptedStreamModel, settings: Settings
) -> AsyncIterator[Client]:
    """The scribble app with a fake Triton, on a real socket."""
    fake = FakeTriton()
    fake.add(scribble_config)
    fake.add(stream_config, respond_stream=stream_model)
    async with listening(app_of(fake, settings)) as client, aiohttp.ClientSession() as session:
        yield Client(session, str(client.base_url).rstrip("/"), "/sdxl/scribble-controlnet/infer")


async def drawn(frontend: Client, scribble: bytes, **fields: Any) -> list[StepProgress | GeneratedPicture]:
    return [event async for event in frontend.draw({"prompt": "a house", **fields}, scribble)]


async def test_progress_is_followed_by_the_picture(frontend: Client, scribble: bytes) -> None:
    *progress, last = await drawn(frontend, scribble, seed=3)
    assert progress == [StepProgress(1, 2), StepProgress(2, 2)]
    assert isinstance(last, GeneratedPicture)
    assert (last.content[:4], last.seed, last.info) == (b"RIFF", 3, {"prompt": "a house"})


async def test_failures_before_and_after_the_first_event_raise_the_same_error(
    frontend: Client, stream_model: ScriptedStreamModel, scribble: bytes
) -> None:
    detail = "`guidance_scale` is 40; it must be from 0 to 30."
    error = InvalidRequestError(detail, code="out_of_range", problems=[FieldProblem("#/guidance_scale", "x", detail)])
    for name in ("fails_at_once", "fails_after_a_step"):
        setattr(stream_model, name, error)
        with pytest.raises(GenerateError, match=r"^--guidance-scale is 40; it must be from 0 to 30\.$") as raised:
            await drawn(frontend, scribble)
        assert (raised.value.exit_status, raised.value.code) == (1, "out_of_range")
        setattr(stream_model, name, None)


async def test_an_overload_error_says_when_to_retry_and_a_server_error_has_the_request_id(
    frontend: Client, stream_model: ScriptedStreamModel, scribble: bytes
) -> None:
    stream_model.fails_at_once = OverloadedError("Too much is going on.", retry_after_s=3)
    with pytest.raises(GenerateError, match=r"^Too much is going on\. Try again in 3 s\..* request id \w+"):
        await drawn(frontend, scribble)
    stream_model.fails_at_once = InferenceError("The model failed.")
    with pytest.raises(GenerateError, match=r"^The model failed\. Search the server's log for the request id \w+"):
        await drawn(frontend, scribble)


@pytest.mark.parametrize(
    "response",
    [
        "",
        HEAD,
        HEAD + chunk("event: queued\ndata: {}\n\n"),
        HEAD + chunk('event: progress\ndata: {"step": 1, "num_st'),
        HEAD + chunk("event: queued\ndata: {}\n\n") + "0\r\n\r\n",
        HEAD + chunk('event: completed\ndata: {"generated_image": "UklGRg'),
    ],
)
async def test_a_cut_off_response_is_an_error(responding: ScriptedApp, response: str, scribble: bytes) -> None:
    async with responding(response) as frontend:
        with pytest.raises(GenerateError, match="closed the connection before the picture was complete"):
            await drawn(frontend, scribble)


@pytest.mark.parametrize(
    "data",
    ["{}", "[]", '{"generated_image": "?", "seed": 1, "info": {}}', '{"generated_image": "UklGRg==", "seed": 1}'],
)
async def test_an_invalid_response_is_an_error(responding: ScriptedApp, data: str, scribble: bytes) -> None:
    async with responding(HEAD + chunk(f"event: completed\ndata: {data}\n\n") + "0\r\n\r\n") as frontend:
        with pytest.raises(GenerateError, match="cannot be read"):
            await drawn(frontend, scribble)


async def test_a_picture_in_small_chunks_is_assembled(responding: ScriptedApp, scribble: bytes) -> None:
    text = 'event: completed\r\ndata: {"generated_image": "UklGRg==", "seed": 1, "info": {}}\r\n\r\n'
    async with responding(HEAD + "".join(chunk(letter) for letter in text) + "0\r\n\r\n") as frontend:
        assert await drawn(frontend, scribble) == [GeneratedPicture(b"RIFF", 1, {})]


@pytest.mark.parametrize(
    ("response", "error"),
    [
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", NoServerError),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", NoServerError),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", NoServerError),
        ("220 smtp.example.com ESMTP\r\n", NoServerError),
        ('HTTP/1.1 503 X\r\nContent-Length: 29\r\n\r\n{"code":"x","detail":"later"}', GenerateError),
    ],
)
async def test_a_server_without_a_description_is_an_error(
    responding: ScriptedApp, response: str, error: type[GenerateError]
) -> None:
    async with responding(response) as frontend:
        with pytest.raises(GenerateError) as raised:
            await frontend.describe()
    assert type(raised.value) is error


async def test_an_unused_address_has_its_own_error(unused_url: str) -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(NothingListensError, match=unused_url):
            await Client(session, unused_url, "/draw").describe()


def test_each_problem_becomes_a_sentence_with_the_name_of_its_option() -> None:
    raised = errors.of_problem(
        {
            "status": 422,
            "code": "invalid_request",
            "detail": "ignored",
            "errors": [
                {"pointer": "#/num_inference_steps", "detail": "`num_inference_steps` is 0; it must be at least 1."},
                {"pointer": "#/image", "detail": "image is cut off"},
                {"pointer": "#/prompt", "detail": "too many words"},
            ],
        }
    )
    assert str(raised) == "--steps is 0; it must be at least 1. The scribble is cut off. The prompt: too many words."
