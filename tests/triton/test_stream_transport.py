# SPDX-License-Identifier: Apache-2.0
"""The choice of `HTTPTriton.stream` between HTTP and gRPC: gRPC for what `/generate_stream` cannot carry."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any

import numpy as np
import orjson
import pytest

from fastapi_triton.core.errors import InvalidRequestError, TritonUnavailableError
from fastapi_triton.triton.client import CARRIES_ALL
from fastapi_triton.triton.datatypes import BY_WIRE
from fastapi_triton.triton.http_client import HTTPTriton
from fastapi_triton.triton.model_config import from_server
from fastapi_triton.triton.tensor import Tensor
from support.scripted_triton import ScriptedTriton, Upstream, scripted_triton

TENSORS = [
    {"name": "x", "data_type": "TYPE_FP32", "dims": [-1], "optional": True},
    {"name": "half", "data_type": "TYPE_FP16", "dims": [1], "optional": True},
    {"name": "word", "data_type": "TYPE_STRING", "dims": [1], "optional": True},
]
CONFIG = {
    "name": "m",
    "input": TENSORS,
    "output": TENSORS[:1],
    "model_transaction_policy": {"decoupled": True},
}
EVENT = b'data: {"model_name":"m","model_version":"1","x":2.0}\n\n'


def tensor(wire: str, value: Any) -> Tensor:
    return Tensor(BY_WIRE[wire], np.array([value], BY_WIRE[wire].numpy))


class RecordedStreams:
    """In place of `GRPCStreams`."""

    def __init__(self) -> None:
        self.inputs: list[Mapping[str, Tensor]] = []
        self.is_closed = False

    async def stream(self, inputs: Mapping[str, Tensor], *_: Any, **__: Any) -> AsyncGenerator[dict[str, Tensor], None]:
        self.inputs.append(inputs)
        yield {"x": tensor("FP32", 2.0)}

    async def close(self) -> None:
        self.is_closed = True


@asynccontextmanager
async def client(
    streams: RecordedStreams | None, config: Mapping[str, Any] = CONFIG
) -> AsyncIterator[tuple[HTTPTriton, ScriptedTriton]]:
    async with scripted_triton() as triton:

        async def script(upstream: Upstream) -> None:
            while True:
                triton.requests.append(await upstream.request())
                if triton.requests[-1][0].startswith(b"GET"):
                    await upstream.respond(orjson.dumps(config))
                else:
                    await upstream.respond(EVENT, headers=b"Content-Type: text/event-stream\r\n")

        triton.script = script
        http = HTTPTriton(triton.url, grpc_url=None if streams is None else "grpc://127.0.0.1:1")
        if streams is not None:
            http._grpc = streams  # type: ignore[assignment]
        async with http:
            await http.config("m")
            triton.requests.clear()
            yield http, triton


async def outputs(http: HTTPTriton, inputs: Mapping[str, Tensor]) -> list[float]:
    async with aclosing(http.stream("m", inputs)) as responses:
        return [each["x"].array.item() async for each in responses]


@pytest.mark.parametrize(
    ("inputs", "is_by_grpc"),
    [
        ({"x": tensor("FP32", 1)}, False),
        ({"x": tensor("FP32", 1), "word": tensor("BYTES", b"text")}, False),
        ({"half": tensor("FP16", 1)}, True),
        ({"x": tensor("FP32", np.nan)}, True),
        ({"word": tensor("BYTES", b"\xff")}, True),
    ],
    ids=["number", "text", "FP16", "NaN", "bytes"],
)
async def test_grpc_carries_requests_that_http_cannot(inputs: Mapping[str, Tensor], *, is_by_grpc: bool) -> None:
    streams = RecordedStreams()
    async with client(streams) as (http, triton):
        assert http.unstreamable(from_server(CONFIG)) == CARRIES_ALL
        assert await outputs(http, inputs) == [2.0]
        assert (bool(streams.inputs), bool(triton.requests)) == (is_by_grpc, not is_by_grpc)
        assert not streams.is_closed
    assert streams.is_closed
    async with client(None) as (http, triton):
        if not is_by_grpc:
            assert await outputs(http, inputs) == [2.0]
            return
        with pytest.raises((InvalidRequestError, TypeError)):
            await outputs(http, inputs)
        assert not triton.requests


async def test_grpc_carries_all_requests_to_a_model_whose_responses_http_cannot() -> None:
    streams = RecordedStreams()
    async with client(streams, {**CONFIG, "output": TENSORS}) as (http, triton):
        assert await outputs(http, {"x": tensor("FP32", 1)}) == [2.0]
    assert (len(streams.inputs), triton.requests) == (1, [])


async def test_grpc_is_not_tried_while_the_breaker_is_open() -> None:
    streams = RecordedStreams()
    async with client(streams) as (http, _):
        http.pool.breaker.open(TritonUnavailableError("It is gone."))
        with pytest.raises(TritonUnavailableError, match="gone"):
            await outputs(http, {"half": tensor("FP16", 1)})
    assert not streams.inputs
