# SPDX-License-Identifier: Apache-2.0
"""The remaining time of a request is sent to Triton as its `timeout`, if Triton would use it."""

import json
import time
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from fastapi_triton.core.context import current_deadline
from fastapi_triton.core.errors import DeadlineExceededError
from fastapi_triton.triton.datatypes import BY_WIRE
from fastapi_triton.triton.error_mapping import failure
from fastapi_triton.triton.http_client import HTTPTriton
from fastapi_triton.triton.model_config import from_server
from fastapi_triton.triton.tensor import Tensor
from support.scripted_triton import ScriptedTriton, Upstream, scripted_triton

INPUTS = {"x": Tensor(BY_WIRE["FP32"], np.array([1.0], np.float32))}
RESPONSE = b'{"model_name":"m","outputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[1.0]}]}'


def config(**policy: Any) -> dict[str, Any]:
    tensor = {"name": "x", "data_type": "TYPE_FP32", "dims": ["1"]}
    batching = {"dynamic_batching": {"default_queue_policy": policy}} if policy else {}
    return {"name": "m", "input": [tensor], "output": [tensor], **batching}


@pytest.fixture
async def triton() -> AsyncIterator[ScriptedTriton]:
    async with scripted_triton() as scripted:
        yield scripted


@pytest.mark.parametrize(
    ("policy", "left_s", "is_sent"),
    [
        ({"allow_timeout_override": True, "default_timeout_microseconds": "60000000"}, 20.0, True),
        # Triton can shorten its own timeout, but not lengthen it.
        ({"allow_timeout_override": True, "default_timeout_microseconds": "10000000"}, 20.0, False),
        # Triton ignores these silently.
        ({"allow_timeout_override": True, "default_timeout_microseconds": "0"}, 20.0, False),
        ({"default_timeout_microseconds": "60000000"}, 20.0, False),
        ({}, 20.0, False),
    ],
)
async def test_the_remaining_time_is_sent_if_the_queue_policy_of_the_model_uses_it(
    triton: ScriptedTriton, policy: dict[str, Any], left_s: float, is_sent: bool
) -> None:
    async def script(upstream: Upstream) -> None:
        while True:
            head, body = await upstream.request()
            triton.requests.append((head, body))
            await upstream.respond(json.dumps(config(**policy)).encode() if b"/config" in head else RESPONSE)

    triton.script = script
    async with HTTPTriton(triton.url) as client:
        await client.config("m")
        current_deadline.set(time.monotonic() + left_s)
        for outputs in ([], ["x"]):
            await client.infer("m", INPUTS, outputs=outputs)
    headers = [json.loads(body.partition(b"\x00\x00")[0]) for head, body in triton.requests if b"/infer" in head]
    assert len(headers) == 2
    for header in headers:
        timeout_us = header.get("parameters", {}).get("timeout")
        assert (timeout_us is not None) is is_sent
        if timeout_us is not None:
            assert (left_s - 15) * 1e6 < timeout_us <= left_s * 1e6


async def test_a_request_after_its_deadline_is_not_sent(triton: ScriptedTriton) -> None:
    async with HTTPTriton(triton.url) as client:
        current_deadline.set(time.monotonic() - 1)
        with pytest.raises(DeadlineExceededError, match="Nothing was run"):
            await client.infer("m", INPUTS)
        with pytest.raises(DeadlineExceededError, match="Nothing was run"):
            await anext(client.stream("m", INPUTS))
    assert not [head for head, _ in triton.requests if b"infer" in head or b"stream" in head]


def test_the_queue_timeout_is_read_from_the_config() -> None:
    override = config(allow_timeout_override=True, default_timeout_microseconds="2500000")
    assert from_server(override).queue_timeout_s == 2.5
    assert from_server(config()).queue_timeout_s is None


def test_a_timeout_in_the_queue_of_triton_is_a_deadline_error() -> None:
    error = failure("m", 503, b'{"error":"Request timeout expired"}')
    assert isinstance(error, DeadlineExceededError)
