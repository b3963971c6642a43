# SPDX-License-Identifier: Apache-2.0
"""An app's own function around a model: code that runs before and after it, and calls the model.

    async def mood(request: Text, infer: Infer[Tokens, Logits]) -> Mood: ...

`Tokens` and `Logits` are pydantic models whose fields are the model's tensors. Clients send a `Text` and get a `Mood`.
"""

import asyncio
import contextvars
import functools
import inspect
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from fastapi_triton.core.slot import current_slot

Inputs = TypeVar("Inputs", bound=BaseModel)
Outputs = TypeVar("Outputs", bound=BaseModel)
Run = Callable[[BaseModel], Awaitable[BaseModel]]

FORM = (
    "write it as `async def f(request: Request, infer: Infer[Inputs, Outputs]) -> Response`, or `def` with "
    "BlockingInfer, where all four are pydantic models"
)


class Infer(Generic[Inputs, Outputs]):
    """The endpoint's model, for an `async def`: `outputs = await infer(Inputs(…))`."""

    def __init__(self, run: Run) -> None:
        self._run = run

    async def __call__(self, inputs: Inputs) -> Outputs:
        """Run the model once.

        Raises:
            InvalidRequestError: a value does not fit its tensor, or the model rejects it.
            FastAPITritonError: any other error of a request to Triton. Do not catch it; the client gets it.
        """
        return await self._run(inputs)  # type: ignore[return-value]


class BlockingInfer(Generic[Inputs, Outputs]):
    """The endpoint's model, for a plain `def`, which runs in a thread: `outputs = infer(Inputs(…))`."""

    def __init__(self, run: Run, loop: asyncio.AbstractEventLoop) -> None:
        self._run = run
        self._loop = loop
        # Only the event loop uses these two.
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_cancelled = False

    def __call__(self, inputs: Inputs) -> Outputs:
        """Run the model once, and block the thread meanwhile. Raises what `Infer` raises."""
        return asyncio.run_coroutine_threadsafe(self._run_once(inputs), self._loop).result()  # type: ignore[return-value]

    async def _run_once(self, inputs: BaseModel) -> BaseModel:
        if self._is_cancelled:
            raise asyncio.CancelledError
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await self._run(inputs)

    def cancel(self) -> None:
        """Cancel the run that the thread waits for, and all later ones."""
        self._is_cancelled = True
        for task in self._tasks:
            task.cancel()


@dataclass(frozen=True, slots=True)
class EndpointFunction:
    """An app's function, and the four models of its signature."""

    call: Callable[[BaseModel, Any], Any]
    request: type[BaseModel]
    response: type[BaseModel]
    inputs: type[BaseModel]
    outputs: type[BaseModel]
    is_async: bool

    async def __call__(self, request: BaseModel, run: Run, executor: Executor) -> BaseModel:
        """Call the function, a plain `def` in a thread, and validate its result by the response model."""
        if self.is_async:
            result = await self.call(request, Infer(run))
        else:
            result = await self._in_thread(request, run, executor)
        return result if isinstance(result, self.response) else self.response.model_validate(result)

    async def _in_thread(self, request: BaseModel, run: Run, executor: Executor) -> Any:
        loop = asyncio.get_running_loop()
        infer: BlockingInfer[Any, Any] = BlockingInfer(run, loop)
        context = contextvars.copy_context()  # the request's id, for its log and for Triton
        running = loop.run_in_executor(executor, functools.partial(context.run, self.call, request, infer))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            infer.cancel()
            slot = current_slot.get()
            if slot is not None and not running.done():
                # A thread cannot be stopped, so the request keeps its slot until the thread has ended.
                slot.hold()
                running.add_done_callback(lambda _: slot.release())
            raise


def read_signature(function: Callable[..., Any]) -> EndpointFunction:
    """Read the models from a function's annotations.

    Raises:
        TypeError: the function does not have the required form; the message describes it.
    """
    name = getattr(function, "__name__", repr(function))
    hints = get_type_hints(function)
    response = hints.pop("return", None)
    parameters = list(inspect.signature(function).parameters)
    if len(parameters) != 2 or set(hints) != set(parameters):
        raise TypeError(f"{name} has the parameters ({', '.join(parameters)}): {FORM}.")
    request, infer = (hints[each] for each in parameters)
    is_async = inspect.iscoroutinefunction(function)
    wanted = Infer if is_async else BlockingInfer
    if get_origin(infer) is not wanted:
        raise TypeError(f"{name}'s `{parameters[1]}` must be a {wanted.__name__}[Inputs, Outputs]: {FORM}.")
    inputs, outputs = get_args(infer)
    models = {"request": request, "response": response, "inputs": inputs, "outputs": outputs}
    for what, model in models.items():
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            raise TypeError(f"{name}: its {what} is {model!r}, which is not a pydantic model: {FORM}.")
    return EndpointFunction(function, is_async=is_async, **models)
