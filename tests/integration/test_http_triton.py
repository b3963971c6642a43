# SPDX-License-Identifier: Apache-2.0
"""The HTTP client with a real Triton: tensors in both directions, and errors."""

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastapi_triton.core.errors import (
    DeadlineExceededError,
    InferenceError,
    InvalidRequestError,
    ModelNotReadyError,
    OverloadedError,
    TritonUnavailableError,
)
from fastapi_triton.triton.datatypes import BY_WIRE
from fastapi_triton.triton.http_client import HTTPTriton
from fastapi_triton.triton.tensor import Tensor
from fastapi_triton.triton.transport.connection import ResponseHead
from support.serving import Server, free_port

pytestmark = pytest.mark.integration


class HeaderRecordingTriton(HTTPTriton):
    """Keeps the headers of the last response."""

    last_headers: Mapping[bytes, bytes]

    async def _call(self, *arguments: Any, **options: Any) -> tuple[ResponseHead, memoryview]:
        head, body = await super()._call(*arguments, **options)
        self.last_headers = dict(head.headers)
        return head, body


def inputs_of(text: bytes) -> dict[str, Tensor]:
    return {"text": Tensor.of_one(BY_WIRE["BYTES"], text, (1, 1))}


@pytest.fixture
async def triton(echo_server: Server) -> AsyncIterator[HeaderRecordingTriton]:
    async with HeaderRecordingTriton(f"http://{echo_server.triton_url}") as client:
        yield client


async def test_config_is_read(triton: HTTPTriton) -> None:
    config = await triton.config("echo")
    assert (config.name, config.max_batch_size, config.decoupled) == ("echo", 8, False)
    (tensor,) = config.inputs
    assert (tensor.name, tensor.datatype.wire, tensor.dims, tensor.optional) == ("text", "BYTES", (1,), False)


async def test_bytes_of_every_kind_come_back_unchanged(triton: HTTPTriton) -> None:
    for sent in (bytes(range(256)), b"", b"a\x00\x00", "ä🏠".encode(), b"x" * 2_000_000):
        response = await triton.infer("echo", inputs_of(sent), outputs=["text"], request_id="abc")
        assert response["text"].array.item() == sent
        assert response["text"].array.shape == (1, 1)


async def test_all_outputs_are_returned_if_none_is_requested(triton: HTTPTriton) -> None:
    assert set(await triton.infer("echo", inputs_of(b"a"))) == {"text"}


async def test_triton_is_never_asked_to_compress(triton: HeaderRecordingTriton) -> None:
    await triton.infer("echo", inputs_of(b"a" * 100_000), outputs=["text"])
    assert b"content-length" in triton.last_headers
    assert b"content-encoding" not in triton.last_headers


async def test_readiness_is_per_model(triton: HTTPTriton) -> None:
    assert await triton.ready("echo")
    assert not await triton.ready("nope")
    assert not await triton.ready("../../health")


async def test_model_error_keeps_its_text_and_field_but_not_an_unlisted_code(triton: HTTPTriton) -> None:
    with pytest.raises(InvalidRequestError) as rejected:
        await triton.infer("echo", inputs_of(b"refuse"))
    assert (rejected.value.code, rejected.value.detail) == ("refused_by_model", "Say it nicely.")
    assert rejected.value.problems[0].pointer == "#/text"


async def test_models_exception_is_an_inference_error_without_its_text(triton: HTTPTriton) -> None:
    with pytest.raises(InferenceError) as failed:
        await triton.infer("echo", inputs_of(b"fail"))
    assert "secret" not in failed.value.detail


async def test_error_of_triton_itself_keeps_its_text(triton: HTTPTriton) -> None:
    wrong = {"text": Tensor(BY_WIRE["BYTES"], np.full((1, 2), b"a", dtype=np.object_))}
    with pytest.raises(InvalidRequestError, match=r"Expected \[-1,1\], got \[1,2\]"):
        await triton.infer("echo", wrong)


async def test_unknown_model_is_not_ready(triton: HTTPTriton) -> None:
    with pytest.raises(ModelNotReadyError):
        await triton.infer("nope", inputs_of(b"a"))
    with pytest.raises(ModelNotReadyError):
        await triton.config("nope")


async def test_closed_port_is_reported_as_triton_unavailable() -> None:
    async with HTTPTriton(f"http://127.0.0.1:{free_port()}") as client:
        with pytest.raises(TritonUnavailableError, match="Nothing was run"):
            await client.infer("echo", inputs_of(b"a"))
        with pytest.raises(TritonUnavailableError):
            await client.ready("echo")


async def test_late_response_is_a_deadline_error_and_a_full_queue_is_overload(
    echo_server: Server, tmp_path: Path
) -> None:
    running = tmp_path / "running"
    request = threading.Thread(target=echo_server.post, args=("/echo",), kwargs={"json": {"text": f"wait {running}"}})
    request.start()
    while not running.exists():
        request.join(0.02)
    try:
        async with HTTPTriton(f"http://{echo_server.triton_url}", request_timeout_s=0.2) as client:
            errors: list[type[Exception]] = []
            for _ in range(4):  # two fit into the queue of two, the others do not
                with pytest.raises((DeadlineExceededError, OverloadedError)) as rejected:
                    await client.infer("echo", inputs_of(b"a"))
                errors.append(rejected.type)
        assert errors[0] is DeadlineExceededError
        assert errors[-1] is OverloadedError
    finally:
        running.unlink()
        request.join(30)
        await until_queue_has_space(echo_server)


async def until_queue_has_space(echo_server: Server) -> None:
    """Wait until Triton's queue has space for later tests: it may stay full for a second after an instance is free."""
    async with asyncio.timeout(30), HTTPTriton(f"http://{echo_server.triton_url}") as client:
        while True:
            try:
                await client.infer("echo", inputs_of(b"a"))
                return
            except OverloadedError:
                await asyncio.sleep(0.05)


async def test_error_says_that_the_client_is_a_context_manager() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await HTTPTriton("http://localhost:8000").ready("echo")
