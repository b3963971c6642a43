# SPDX-License-Identifier: Apache-2.0
"""The client against a real Triton: tensors there and back, and what its refusals become."""

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


class ListeningTriton(HTTPTriton):
    """Remembers the headers of the last answer."""

    last_headers: Mapping[bytes, bytes]

    async def _call(self, *arguments: Any, **options: Any) -> tuple[ResponseHead, memoryview]:
        head, body = await super()._call(*arguments, **options)
        self.last_headers = dict(head.headers)
        return head, body


def say(text: bytes) -> dict[str, Tensor]:
    return {"text": Tensor.of_one(BY_WIRE["BYTES"], text, (1, 1))}


@pytest.fixture
async def triton(echo_server: Server) -> AsyncIterator[ListeningTriton]:
    async with ListeningTriton(f"http://{echo_server.triton_url}") as client:
        yield client


async def test_the_config_is_read_as_plain_data(triton: HTTPTriton) -> None:
    config = await triton.config("echo")
    assert (config.name, config.max_batch_size, config.decoupled) == ("echo", 8, False)
    (tensor,) = config.inputs
    assert (tensor.name, tensor.datatype.wire, tensor.dims, tensor.optional) == ("text", "BYTES", (1,), False)


async def test_bytes_of_every_kind_come_back_as_they_went(triton: HTTPTriton) -> None:
    for sent in (bytes(range(256)), b"", b"a\x00\x00", "ä🏠".encode(), b"x" * 2_000_000):
        answer = await triton.infer("echo", say(sent), outputs=["text"], request_id="abc")
        assert answer["text"].array.item() == sent
        assert answer["text"].array.shape == (1, 1)


async def test_all_outputs_come_when_none_is_named(triton: HTTPTriton) -> None:
    assert set(await triton.infer("echo", say(b"a"))) == {"text"}


async def test_triton_is_never_asked_to_compress(triton: ListeningTriton) -> None:
    await triton.infer("echo", say(b"a" * 100_000), outputs=["text"])
    assert b"content-length" in triton.last_headers
    assert b"content-encoding" not in triton.last_headers


async def test_readiness_is_per_model(triton: HTTPTriton) -> None:
    assert await triton.ready("echo")
    assert not await triton.ready("nope")
    assert not await triton.ready("../../health")


async def test_a_models_refusal_keeps_its_words_and_field_but_no_code_that_is_not_listed(triton: HTTPTriton) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        await triton.infer("echo", say(b"refuse"))
    assert (refused.value.code, refused.value.detail) == ("refused_by_model", "Say it nicely.")
    assert refused.value.problems[0].pointer == "#/text"


async def test_a_models_exception_is_an_inference_error_without_its_text(triton: HTTPTriton) -> None:
    with pytest.raises(InferenceError) as failed:
        await triton.infer("echo", say(b"fail"))
    assert "secret" not in failed.value.detail


async def test_tritons_own_refusal_is_the_callers_to_read(triton: HTTPTriton) -> None:
    wrong = {"text": Tensor(BY_WIRE["BYTES"], np.full((1, 2), b"a", dtype=np.object_))}
    with pytest.raises(InvalidRequestError, match=r"Expected \[-1,1\], got \[1,2\]"):
        await triton.infer("echo", wrong)


async def test_an_unknown_model_is_not_ready(triton: HTTPTriton) -> None:
    with pytest.raises(ModelNotReadyError):
        await triton.infer("nope", say(b"a"))
    with pytest.raises(ModelNotReadyError):
        await triton.config("nope")


async def test_a_port_where_nobody_listens_is_unavailable() -> None:
    async with HTTPTriton(f"http://127.0.0.1:{free_port()}") as client:
        with pytest.raises(TritonUnavailableError, match="nothing was run"):
            await client.infer("echo", say(b"a"))
        with pytest.raises(TritonUnavailableError):
            await client.ready("echo")


async def test_no_answer_in_time_is_a_deadline_and_a_full_queue_is_overload(
    echo_server: Server, tmp_path: Path
) -> None:
    running = tmp_path / "running"
    held = threading.Thread(target=echo_server.post, args=("/echo",), kwargs={"json": {"text": f"wait {running}"}})
    held.start()
    while not running.exists():
        held.join(0.02)
    try:
        async with HTTPTriton(f"http://{echo_server.triton_url}", request_timeout_s=0.2) as client:
            refusals: list[type[Exception]] = []
            for _ in range(4):  # two find a place in the queue of two, the others do not
                with pytest.raises((DeadlineExceededError, OverloadedError)) as refused:
                    await client.infer("echo", say(b"a"))
                refusals.append(refused.type)
        assert refusals[0] is DeadlineExceededError
        assert refusals[-1] is OverloadedError
    finally:
        running.unlink()
        held.join(30)
        await queue_takes_requests(echo_server)


async def queue_takes_requests(echo_server: Server) -> None:
    """Triton leaves a full queue alone for up to a second after an instance frees. Later tests need room in it."""
    async with asyncio.timeout(30), HTTPTriton(f"http://{echo_server.triton_url}") as client:
        while True:
            try:
                await client.infer("echo", say(b"a"))
                return
            except OverloadedError:
                await asyncio.sleep(0.05)


async def test_used_outside_its_context_it_says_so() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await HTTPTriton("http://localhost:8000").ready("echo")
