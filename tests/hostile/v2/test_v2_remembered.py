# SPDX-License-Identifier: Apache-2.0
"""`/v2` caches its checks of JSON. The cache never applies to another model, another length or another nesting."""

import json

import pytest

from fastapi_triton.app.triton_proxy.inference_request import InferenceRequest
from fastapi_triton.app.triton_proxy.request_body import check_inference
from fastapi_triton.core.errors import UnreadableRequestError
from fastapi_triton.triton.datatypes import BY_WIRE
from fastapi_triton.triton.model_config import ModelConfig, TensorConfig


def config(wire: str) -> ModelConfig:
    return ModelConfig("echo", 8, (TensorConfig("text", BY_WIRE[wire], (1,), False),), ())


def body(text: str, *, shape: tuple[int, ...] = (1, 1)) -> bytes:
    return json.dumps({"inputs": [{"name": "text", "shape": shape, "datatype": "BYTES", "data": [text]}]}).encode()


async def checked(sent: bytes) -> InferenceRequest:
    request = await check_inference([sent], [], is_shared_memory_allowed=False)
    assert request is not None
    return request


async def test_request_checked_for_one_model_is_checked_again_for_another() -> None:
    for _ in range(2):
        (await checked(body("a"))).require_fit(config("BYTES"))
        with pytest.raises(UnreadableRequestError, match="expects INT32"):
            (await checked(body("a"))).require_fit(config("INT32"))


async def test_same_json_with_a_shorter_string_is_measured_again() -> None:
    """The number of elements is compared with the bytes received. Long strings are cut before the JSON is cached."""
    await checked(body("a" * 9000, shape=(3000, 1)))
    with pytest.raises(UnreadableRequestError, match="more than the body has bytes"):
        await checked(body("a" * 2500, shape=(3000, 1)))


async def test_long_string_hides_no_nesting() -> None:
    deep = "[" * 101 + "]" * 101
    await checked(body("a" * 3000 + deep))  # brackets inside a string are text
    sent = body("a" * 3000).replace(b'"data": [', b'"data": [' + deep.encode() + b", ")
    with pytest.raises(UnreadableRequestError) as rejected:
        await checked(sent)
    assert rejected.value.code == "json_too_deep"
