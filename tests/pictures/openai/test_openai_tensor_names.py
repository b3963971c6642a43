# SPDX-License-Identifier: Apache-2.0
"""Fields with other names than their tensors, used through OpenAI's API."""

from collections.abc import AsyncGenerator
from typing import Annotated

import httpx2
import pytest
from pydantic import BaseModel

from fastapi_triton import Base64Image, Settings, TensorName
from fastapi_triton.testing import FakeTriton
from fastapi_triton.triton.client import Tensors
from fastapi_triton.triton.tensor import Tensor
from support.app_on_socket import listening
from support.scripted_stream_model import ScriptedStreamModel, app_of


class WordyRequest(BaseModel):
    prompt: str
    image: Base64Image
    conditioning_scale: float = 1.0
    without: Annotated[str | None, TensorName("negative_prompt")] = None


async def test_a_field_is_sent_as_the_tensor_that_it_names(
    triton: FakeTriton, stream_model: ScriptedStreamModel, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    received: list[Tensors] = []
    respond = ScriptedStreamModel.__call__

    async def listen(self: ScriptedStreamModel, inputs: Tensors) -> AsyncGenerator[dict[str, Tensor], None]:
        received.append(inputs)
        async for each in respond(self, inputs):
            yield each

    monkeypatch.setattr(ScriptedStreamModel, "__call__", listen)
    async with listening(app_of(triton, settings, WordyRequest)) as client:
        response: httpx2.Response = await client.post(
            "/v1/images/generations", json={"prompt": "a house", "without": "trees", "output_format": "png"}
        )
    assert response.status_code == 200, response.text
    body = response.json()
    assert body["output_format"] == "webp"  # the endpoint has no field for it
    assert "`output_format`" in body["notes"][0]
    assert received[-1]["negative_prompt"].array.item() == b"trees"
    assert "without" not in received[-1]
