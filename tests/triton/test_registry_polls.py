# SPDX-License-Identifier: Apache-2.0
"""Single polls of the model registry: the time of the next one, and what is logged."""

import asyncio
from types import SimpleNamespace

import pytest

from fastapi_triton.core.errors import TritonUnavailableError
from fastapi_triton.testing import FakeTriton
from fastapi_triton.triton import model_registry
from fastapi_triton.triton.client import ModelStatus
from fastapi_triton.triton.model_registry import ModelRegistry


async def test_after_a_slow_and_a_failed_index_request_the_next_poll_is_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    class Slow(FakeTriton):
        num_requests = 0
        has_third_request = asyncio.Event()

        async def index(self) -> list[ModelStatus]:
            nonlocal now
            self.num_requests += 1
            if self.num_requests == 1:
                now += 1000.0  # polls take at most a tenth of the time, so the next one would be hours later
                registry.refresh_soon()
            elif self.num_requests == 2:
                raise TritonUnavailableError("away")
            else:
                self.has_third_request.set()
            return []

    monkeypatch.setattr(model_registry, "time", SimpleNamespace(monotonic=lambda: now))
    triton = Slow()
    registry = ModelRegistry(triton, interval_s=0.001)
    registry.subscribe(lambda: None)
    async with registry.polling():
        await triton.has_third_request.wait()


async def test_a_model_that_fails_to_load_is_logged_once_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(FakeTriton):
        async def index(self) -> list[ModelStatus]:
            return [
                ModelStatus("a", "1", "UNAVAILABLE", "Internal: ModuleNotFoundError: No module named 'spacy'"),
                ModelStatus("b", "1", "UNAVAILABLE", "unloaded"),
            ]

    registry = ModelRegistry(Broken(), interval_s=3600)
    for _ in range(2):
        await registry.poll()
    warnings = [record.message for record in caplog.records if "not loaded" in record.message]
    assert warnings == ["model a: Triton has not loaded it: Internal: ModuleNotFoundError: No module named 'spacy'"]
