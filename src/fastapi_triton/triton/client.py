# SPDX-License-Identifier: Apache-2.0
"""The interface of a Triton client: tensors in, tensors out. The transport behind it can be exchanged."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from fastapi_triton.core.settings import Settings
from fastapi_triton.triton.model_config import ModelConfig
from fastapi_triton.triton.tensor import Tensor

Tensors = Mapping[str, Tensor]
# Triton's parameters of a request, such as `sequence_id`.
Parameters = Mapping[str, str | int | bool]


@dataclass(frozen=True, slots=True)
class Extensions:
    """What one request uses of Triton's protocol extensions.

    `classes` has the number of classes of some requested outputs. They are returned as texts in each row, the highest
    value first: `score:index`, or `score:index:label`.
    """

    parameters: Parameters = field(default_factory=dict)
    classes: Mapping[str, int] = field(default_factory=dict)


NO_EXTENSIONS = Extensions()


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One version of a model in Triton's repository index. A model that was never loaded has neither version nor state.

    `state` is READY, LOADING, UNLOADING or UNAVAILABLE. If it is not READY, `reason` has the cause.
    """

    name: str
    version: str = ""
    state: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Unstreamable:
    """The inputs and outputs of a model that `TritonClient.stream` cannot carry, each with the reason.

    A reason continues a sentence about the tensor, such as "is FP16". `remedy` is what the operator can do.
    """

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    remedy: str = ""


CARRIES_ALL = Unstreamable({}, {})


class TritonClient(Protocol):
    """One Triton server. Use it as an async context manager inside the running event loop.

    To cancel a call, cancel its task. Every method may raise `TritonUnavailableError`.
    """

    @property
    def is_up(self) -> bool:
        """Whether Triton responded to the last request."""
        ...

    @property
    def num_open_breakers(self) -> int:
        """The number of Tritons whose circuit breaker is open."""
        ...

    @property
    def keeps_sequences(self) -> bool:
        """Whether all requests reach the same Triton, so that it can keep the state of a sequence."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

    def subscribe(self, on_change: Callable[[str], None]) -> None:
        """Call the function with the name of a model whose process died or is back, and with "" for Triton itself."""
        ...

    async def server_ready(self) -> bool:
        """Whether the whole server is ready. A current Triton is not ready while a stub process is dead."""
        ...

    async def check_processes(self) -> None:
        """Check the stub processes of models that had requests since the last check, and of dead models."""
        ...

    async def ready(self, model: str) -> bool:
        """Whether this model is ready for requests."""
        ...

    async def config(self, model: str) -> ModelConfig:
        """The model's effective config.

        Raises:
            ModelNotReadyError: Triton does not know the model, or has not loaded it.
        """
        ...

    async def index(self) -> list[ModelStatus]:
        """Every version of every model in Triton's repositories, loaded or not.

        Raises:
            InferenceError: the response cannot be read.
        """
        ...

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
        """Run a model once. `outputs` names the requested outputs, by default all. Without a version Triton chooses it.

        Raises:
            InvalidRequestError: Triton or the model rejects the input.
            InferenceError: Triton or the model failed.
            OverloadedError: Triton's queue is full.
            ModelNotReadyError: the model is not loaded.
            DeadlineExceededError: no response in time.
        """
        ...

    def unstreamable(self, config: ModelConfig) -> Unstreamable:
        """What `stream` cannot carry of a decoupled model."""
        ...

    def stream(
        self, model: str, inputs: Tensors, *, request_id: str = "", version: str = ""
    ) -> AsyncGenerator[dict[str, Tensor], None]:
        """Run a decoupled model: yields the outputs of each response when it arrives.

        Inputs and outputs have the config's dims, without a batch dimension. Closing the generator
        (`contextlib.aclosing`), or cancelling the task that waits for it, cancels the request. The model can see this
        in `is_cancelled()`.

        Raises:
            InvalidRequestError: Triton or the model rejects the input, or it holds values that cannot be streamed.
            TypeError: an input is among those that `unstreamable` returns.
            InferenceError: Triton or the model failed.
            OverloadedError: the model accepts no more requests, or has no memory left.
            ModelNotReadyError: the model is not loaded.
            DeadlineExceededError: the model did not finish in time.
        """
        ...


@runtime_checkable
class CanSleep(Protocol):
    """A client whose Tritons are started on demand; it may have none while there are no requests."""

    @property
    def is_asleep(self) -> bool:
        """Whether no Triton runs because none is needed."""
        ...


# Makes the default client of an app; None: `HTTPTriton.of`. Ray Serve sets it, because a module creates its app at
# import, before it knows where it runs.
client_factory: ContextVar[Callable[[Settings], TritonClient] | None] = ContextVar("client_factory", default=None)
