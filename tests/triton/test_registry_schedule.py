# SPDX-License-Identifier: Apache-2.0
"""When the model registry polls again."""

import asyncio
from types import SimpleNamespace

import pytest

from fastapi_triton.core.errors import TritonUnavailableError
from fastapi_triton.testing import FakeTriton
from fastapi_triton.triton import model_registry
from fastapi_triton.triton.client import ModelStatus
from fastapi_triton.triton.model_registry import ModelRegistry


async def test_an_index_that_took_long_and_then_fails_is_asked_for_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    class Slow(FakeTriton):
        num_asked = 0
        is_asked_again = asyncio.Event()

        async def index(self) -> list[ModelStatus]:
            nonlocal now
            self.num_asked += 1
            if self.num_asked == 1:
                now += 1000.0  # a round less than a tenth of the time: the next one would be hours away
                registry.refresh_soon()
            elif self.num_asked == 2:
                raise TritonUnavailableError("away")
            else:
                self.is_asked_again.set()
            return []

    monkeypatch.setattr(model_registry, "time", SimpleNamespace(monotonic=lambda: now))
    triton = Slow()
    registry = ModelRegistry(triton, interval_s=0.001)
    registry.subscribe(lambda: None)
    async with registry.polling():
        await triton.is_asked_again.wait()
