# SPDX-License-Identifier: Apache-2.0
"""A Triton for unit tests: models are configs with a Python function behind them. It ships for your tests too."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from fastapi_triton.errors import ModelNotReadyError, TritonUnavailableError
from fastapi_triton.model_config import ModelConfig
from fastapi_triton.triton.client import Tensor, Tensors

Respond = Callable[[Tensors], Awaitable[dict[str, Tensor]]]


@dataclass(slots=True)
class FakeModel:
    """A model: its config, what answers a request, and whether it is ready now."""

    config: ModelConfig
    respond: Respond
    is_ready: bool = True


@dataclass(slots=True)
class FakeTriton:
    """Implements `TritonClient`. `requests` keeps (model, inputs, request id) of every request, in order."""

    models: dict[str, FakeModel] = field(default_factory=dict)
    is_running: bool = True
    requests: list[tuple[str, Tensors, str]] = field(default_factory=list)

    def add(self, config: ModelConfig, respond: Respond, *, is_ready: bool = True) -> FakeModel:
        model = FakeModel(config, respond, is_ready)
        self.models[config.name] = model
        return model

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        return None

    async def ready(self, model: str) -> bool:
        self._require_running()
        return model in self.models and self.models[model].is_ready

    async def config(self, model: str) -> ModelConfig:
        return self._loaded(model).config

    async def infer(
        self, model: str, inputs: Tensors, *, outputs: Sequence[str] = (), request_id: str = ""
    ) -> dict[str, Tensor]:
        loaded = self._loaded(model)
        self.requests.append((model, inputs, request_id))
        tensors = await loaded.respond(inputs)
        return {name: tensor for name, tensor in tensors.items() if not outputs or name in outputs}

    def _loaded(self, model: str) -> FakeModel:
        self._require_running()
        if model not in self.models or not self.models[model].is_ready:
            raise ModelNotReadyError(f"The model {model} is not ready.", retry_after_s=1.0)
        return self.models[model]

    def _require_running(self) -> None:
        if not self.is_running:
            raise TritonUnavailableError("No Triton answers.", retry_after_s=1.0)
