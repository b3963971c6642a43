# SPDX-License-Identifier: Apache-2.0
"""A fake Triton for unit tests, yours too: each model is a config and a Python function."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from fastapi_triton.core.context import remaining_s
from fastapi_triton.core.errors import DeadlineExceededError, InferenceError, ModelNotReadyError, TritonUnavailableError
from fastapi_triton.core.request_record import TRITON, Stage
from fastapi_triton.core.slot import current_slot
from fastapi_triton.triton import config_text, generate_codec
from fastapi_triton.triton.client import NO_EXTENSIONS, Extensions, ModelStatus, Tensors, Unstreamable
from fastapi_triton.triton.datatypes import BY_WIRE
from fastapi_triton.triton.model_config import ModelConfig, from_server
from fastapi_triton.triton.tensor import Tensor

# Outputs by name: tensors, or anything that numpy makes an array of. Leading dimensions of 1 may be missing.
Outputs = Mapping[str, Any]
Respond = Callable[[Tensors], Awaitable[Outputs] | Outputs]
RespondStream = Callable[[Tensors], AsyncGenerator[Outputs, None]]


def read_config(path: str | Path) -> ModelConfig:
    """The config of a model, from its `config.pbtxt`. Needs `fastapi-triton[check]`.

    Raises:
        ConfigTextError: the file cannot be read, or is not a valid config.
    """
    return from_server(config_text.read(Path(path)))


@dataclass(slots=True)
class FakeModel:
    """A model of `FakeTriton`.

    Args:
        config: its config.
        respond: a function, async or not, from the inputs to the outputs of a request.
        is_ready: whether it is ready; tests may change it.
        respond_stream: for a decoupled model, an async generator function instead of `respond`.
        versions: its versions in the model index.
    """

    config: ModelConfig
    respond: Respond | None = None
    is_ready: bool = True
    respond_stream: RespondStream | None = None
    versions: tuple[str, ...] = ("1",)


@dataclass(slots=True)
class FakeStream:
    """One call of `stream`. `ended` is set at its end; `is_closed_early` is True if the client disconnected before."""

    model: str
    request_id: str
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    is_closed_early: bool = False


@dataclass(slots=True)
class FakeTriton:
    """A `TritonClient` without a server.

    Args:
        models: name → model; `add` adds one.
        is_running: whether Triton responds; tests may change it.
        requests: (model, inputs, request id) of every request, in order.
        versions_asked: the model version of every request, in order.
        extensions: the protocol extensions of every request to `infer`, in order.
        streams: every call of `stream`, in order.
        request_timeout_s: seconds to wait for a response, unless the request's deadline is earlier.
    """

    models: dict[str, FakeModel] = field(default_factory=dict)
    is_running: bool = True
    requests: list[tuple[str, Tensors, str]] = field(default_factory=list)
    versions_asked: list[str] = field(default_factory=list)
    extensions: list[Extensions] = field(default_factory=list)
    streams: list[FakeStream] = field(default_factory=list)
    request_timeout_s: float = 300.0

    def add(
        self,
        config: ModelConfig,
        respond: Respond | None = None,
        *,
        is_ready: bool = True,
        respond_stream: RespondStream | None = None,
    ) -> FakeModel:
        model = FakeModel(config, respond, is_ready, respond_stream)
        self.models[config.name] = model
        return model

    @property
    def is_up(self) -> bool:
        return self.is_running

    @property
    def num_open_breakers(self) -> int:
        return int(not self.is_running)

    @property
    def keeps_sequences(self) -> bool:
        return True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        return None

    def subscribe(self, on_change: Callable[[str], None]) -> None:
        """Does nothing: nothing changes without a request."""

    async def server_ready(self) -> bool:
        self._require_running()
        return all(model.is_ready for model in self.models.values())

    async def check_processes(self) -> None:
        """Does nothing: there are no stub processes."""

    async def ready(self, model: str) -> bool:
        self._require_running()
        return model in self.models and self.models[model].is_ready

    async def config(self, model: str) -> ModelConfig:
        return self._loaded(model).config

    async def index(self) -> list[ModelStatus]:
        self._require_running()
        return [
            ModelStatus(
                name, version, "READY" if model.is_ready else "UNAVAILABLE", "" if model.is_ready else "unloaded"
            )
            for name, model in self.models.items()
            for version in model.versions
        ]

    async def infer(
        self,
        model: str,
        inputs: Tensors,
        *,
        outputs: Sequence[str] = (),
        request_id: str = "",
        version: str = "",
        extensions: Extensions = NO_EXTENSIONS,
    ) -> dict[str, Tensor]:
        loaded = self._loaded(model)
        self.requests.append((model, inputs, request_id))
        self.versions_asked.append(version)
        self.extensions.append(extensions)
        if loaded.respond is None:
            raise InferenceError(f"The model {model} supports only streams.")
        with Stage(TRITON, model):
            response = loaded.respond(inputs)
            if not isinstance(response, Mapping):
                response = await self._uncancellable(response)
            tensors = _tensors(response, loaded.config)
        for name in extensions.classes.keys() & tensors.keys() & set(outputs):
            tensors[name] = _classes(tensors[name], extensions.classes[name], is_batched=loaded.config.is_batched)
        return {name: tensor for name, tensor in tensors.items() if not outputs or name in outputs}

    def unstreamable(self, config: ModelConfig) -> Unstreamable:
        return generate_codec.unstreamable(config)

    async def stream(
        self, model: str, inputs: Tensors, *, request_id: str = "", version: str = ""
    ) -> AsyncGenerator[dict[str, Tensor], None]:
        loaded = self._loaded(model)
        self.requests.append((model, inputs, request_id))
        self.versions_asked.append(version)
        if loaded.respond_stream is None:
            raise InferenceError(f"The model {model} does not support streams.")
        stream = FakeStream(model, request_id)
        self.streams.append(stream)
        try:
            with Stage(TRITON, model):
                async with aclosing(loaded.respond_stream(inputs)) as responses:
                    async for outputs in _until(responses, remaining_s(self.request_timeout_s)):
                        yield _tensors(outputs, loaded.config)
        except (GeneratorExit, asyncio.CancelledError):
            stream.is_closed_early = True
            raise
        finally:
            stream.ended.set()

    async def _uncancellable(self, work: Awaitable[Outputs]) -> Outputs:
        """Continue after a disconnect or a timeout, as Triton's `/infer` does, and hold the slot until the end."""
        slot = current_slot.get()
        working = asyncio.ensure_future(work)
        # The exception is retrieved, so that asyncio does not log it.
        working.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            async with asyncio.timeout(remaining_s(self.request_timeout_s)):
                return await asyncio.shield(working)
        except TimeoutError:
            if working.done():
                raise
            raise DeadlineExceededError("The fake Triton did not respond in time.") from None
        finally:
            if slot is not None and not working.done():
                slot.hold()
                working.add_done_callback(lambda _: slot.release(is_completed=True))

    def _loaded(self, model: str) -> FakeModel:
        self._require_running()
        if model not in self.models or not self.models[model].is_ready:
            raise ModelNotReadyError(f"The model {model} is not ready.", retry_after_s=1.0)
        return self.models[model]

    def _require_running(self) -> None:
        if not self.is_running:
            raise TritonUnavailableError("Triton does not respond.", retry_after_s=1.0)


def _tensors(outputs: Outputs, config: ModelConfig) -> dict[str, Tensor]:
    return {
        name: value if isinstance(value, Tensor) else _tensor(name, value, config) for name, value in outputs.items()
    }


def _tensor(name: str, value: Any, config: ModelConfig) -> Tensor:
    output = config.output(name)
    if output is None:
        raise InferenceError(f"The fake model {config.name} returned `{name}`, which its config does not declare.")
    array = np.asarray(value, dtype=object if output.datatype.kind == "bytes" else output.datatype.numpy)
    if output.datatype.kind == "bytes":
        array = np.frompyfunc(lambda each: each.encode() if isinstance(each, str) else each, 1, 1)(array)
    num_missing = max(0, len(output.dims) + config.is_batched - np.ndim(array))
    whole = np.empty((1,) * num_missing + np.shape(array), dtype=output.datatype.numpy)
    whole[...] = array
    return Tensor(output.datatype, whole)


def _classes(tensor: Tensor, num_classes: int, *, is_batched: bool) -> Tensor:
    """The highest values of each row, as Triton's classification extension returns them. There are no labels."""
    rows = tensor.array.reshape(len(tensor.array) if is_batched else 1, -1)
    texts = [
        [f"{row[index]}:{index}".encode() for index in np.argsort(-row, kind="stable")[:num_classes]] for row in rows
    ]
    array = np.array(texts, dtype=np.object_)
    return Tensor(BY_WIRE["BYTES"], array if is_batched else array[0])


async def _until(responses: AsyncGenerator[Outputs, None], timeout_s: float) -> AsyncGenerator[Outputs, None]:
    end = asyncio.get_running_loop().time() + timeout_s
    while True:
        try:
            async with asyncio.timeout_at(end):
                outputs = await anext(responses)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise DeadlineExceededError("The fake Triton did not respond in time.") from None
        yield outputs
