# SPDX-License-Identifier: Apache-2.0
"""What the frontend asks of a Triton. It takes and gives tensors; what is beneath can change unnoticed."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from fastapi_triton.core.settings import Settings
from fastapi_triton.triton.model_config import ModelConfig
from fastapi_triton.triton.tensor import Tensor

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One version of a model in Triton's repository index. A model that was never loaded has neither version nor state.

    `state` is READY, LOADING, UNLOADING or UNAVAILABLE; `reason` says why it is not READY.
    """

    name: str
    version: str = ""
    state: str = ""
    reason: str = ""


class TritonClient(Protocol):
    """One Triton server. Used as an async context manager inside the running event loop.

    Cancelling a call is cancelling its task. Every method may raise `TritonUnavailableError`.
    """

    @property
    def is_up(self) -> bool:
        """Whether it answered when it was asked last."""
        ...

    @property
    def num_open_breakers(self) -> int:
        """How many Tritons nothing is let through to, since they were away when they were asked last."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

    def subscribe(self, on_change: Callable[[str], None]) -> None:
        """Call this with the name of a model whose process died or is back, and with "" for Triton itself."""
        ...

    async def server_ready(self) -> bool:
        """Whether the whole server is ready. A current Triton is not while a model's process is dead."""
        ...

    async def check_processes(self) -> None:
        """Check the processes of the models that had requests since the last time, and of dead ones."""
        ...

    async def ready(self, model: str) -> bool:
        """Whether this model would take a request now."""
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
            InferenceError: the answer cannot be read.
        """
        ...

    async def infer(
        self, model: str, inputs: Tensors, *, outputs: Sequence[str] = (), request_id: str = "", version: str = ""
    ) -> dict[str, Tensor]:
        """Run a model once. `outputs` names what is wanted; empty means all of them. No version: Triton's choice.

        Raises:
            InvalidRequestError: Triton or the model refuses the input.
            InferenceError: Triton or the model failed.
            OverloadedError: Triton's queue is full.
            ModelNotReadyError: the model is not loaded.
            DeadlineExceededError: no answer in time.
        """
        ...

    def stream(
        self, model: str, inputs: Tensors, *, request_id: str = "", version: str = ""
    ) -> AsyncGenerator[dict[str, Tensor], None]:
        """Run a decoupled model: the outputs of each of its responses, as they come, until it is done.

        Inputs and outputs are scalars or one-dimensional, without a batch dimension; text is UTF-8. Closing the
        generator (`contextlib.aclosing`), or cancelling the task that waits for it, closes the connection, by which
        the model learns that the caller left.

        Raises:
            InvalidRequestError: Triton or the model refuses the input, or it is bytes that are no UTF-8.
            TypeError: an input whose datatype (FP16, BF16) or shape cannot be streamed.
            InferenceError: Triton or the model failed.
            OverloadedError: the model takes no more, or ran out of memory.
            ModelNotReadyError: the model is not loaded.
            DeadlineExceededError: it was not done in time.
        """
        ...


@runtime_checkable
class CanSleep(Protocol):
    """A client that has Tritons started when there are requests, and may have none while there are not."""

    @property
    def is_asleep(self) -> bool:
        """Whether none is there because none is needed."""
        ...


# Makes the client of an app that is given none; None: `HTTPTriton.of`. Ray Serve sets it, because an app's module makes
# its app when it is imported, before it can know where it runs.
client_factory: ContextVar[Callable[[Settings], TritonClient] | None] = ContextVar("client_factory", default=None)
