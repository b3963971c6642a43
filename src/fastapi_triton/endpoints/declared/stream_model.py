# SPDX-License-Identifier: Apache-2.0
"""A stream model: a decoupled model that reports progress, can be cancelled, and describes itself."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from typing import Any

import orjson

from fastapi_triton.admission.model_queue import Wait
from fastapi_triton.admission.service_time import MovingAverage
from fastapi_triton.core.context import current_request_id
from fastapi_triton.core.errors import (
    DeadlineExceededError,
    FastAPITritonError,
    InferenceError,
    ModelNotReadyError,
    NotFoundError,
    TritonUnavailableError,
)
from fastapi_triton.core.slot import current_slot
from fastapi_triton.endpoints.declared import contract, tensors
from fastapi_triton.endpoints.declared.declaration import Configs, Declaration
from fastapi_triton.endpoints.interfaces import COMPLETED, PROGRESS, Services, StreamEvent
from fastapi_triton.endpoints.sse import QUEUED
from fastapi_triton.triton.client import CanSleep

# The stream model's own input: the number of steps between previews.
PREVIEW_FIELD = "preview_every"
# The number of steps over which the mean duration is taken.
_STEPS = 32
# How long a description's `unavailable` is used before the model is asked again; the timeout of that request.
_AVAILABILITY_S, _AVAILABILITY_TIMEOUT_S = 5.0, 2.0
_MAX_REASON = 200


class StreamModel:
    """The stream model behind an endpoint."""

    def __init__(self, model: str, declaration: Declaration, services: Services) -> None:
        self.model = model
        # The mean time between two steps: only there does the model notice a closed stream.
        self.step_s = MovingAverage(_STEPS)
        self._declaration = declaration
        self._triton = services.triton
        self._pipeline = services.pipeline
        self._queue = services.admission.of_pair(declaration.model, model).model_queue
        self._described: tuple[Configs, dict[str, Any]] | None = None
        self._described_at = -_AVAILABILITY_S
        self._describing = asyncio.Lock()

    async def events(self, fields: Mapping[str, Any]) -> AsyncGenerator[StreamEvent, None]:
        """The events of one request until the end of the stream; one is `completed`. The request must hold its slot.

        Raises:
            InferenceError: the stream ended without `completed`.
            FastAPITritonError: any other error of `TritonClient.stream`.
        """
        is_completed = False
        last_step: float | None = None
        configs = await self._declaration.configs()
        try:
            with self._queue.followed() as wait:
                async with aclosing(self._responses(fields, configs)) as responses:
                    async for outputs in responses:
                        event = self._event(outputs)
                        is_completed = is_completed or event.kind == COMPLETED
                        if event.kind == PROGRESS:
                            last_step = self._stepped(last_step)
                        if event.kind not in (QUEUED, PROGRESS, COMPLETED):
                            continue  # an event of a newer model that is unknown here
                        _follow(event, wait)
                        yield event
        except (GeneratorExit, asyncio.CancelledError, DeadlineExceededError):
            if not is_completed:
                self._hold_slot()
            raise
        except TritonUnavailableError:
            if not is_completed:  # otherwise the client has its response, and the error does not matter
                raise
        if not is_completed:
            raise self._incomplete()

    def _event(self, outputs: dict[str, Any]) -> StreamEvent:
        kind = outputs.pop(contract.EVENT_OUTPUT, None)
        if isinstance(outputs.get("preview"), bytes):
            raise InferenceError(f"The model {self.model} returned a `preview` that is not UTF-8 text.")
        return StreamEvent(kind, outputs)

    async def last_event(
        self, fields: Mapping[str, Any], listener: Callable[[StreamEvent], None] | None = None
    ) -> StreamEvent:
        """The event `completed` of one request; the listener gets the events before it. Raises what `events` raises."""
        completed: StreamEvent | None = None
        async with aclosing(self.events(fields)) as events:
            async for event in events:
                if event.kind == COMPLETED:
                    completed = event
                elif listener is not None:
                    listener(event)
        if completed is None:
            raise self._incomplete()
        return completed

    def _incomplete(self) -> InferenceError:
        return InferenceError(f"The model {self.model} ended its stream without the event `{COMPLETED}`.")

    def _stepped(self, last_step: float | None) -> float:
        now = time.monotonic()
        if last_step is not None:
            self.step_s.add(now - last_step)
        return now

    def _hold_slot(self) -> None:
        """Hold the slot for one more step, because the model notices a closed stream only between steps."""
        slot = current_slot.get()
        if slot is not None and self.step_s.value is not None:
            slot.hold_for(self.step_s.value)

    async def describe(self) -> dict[str, Any]:
        """The model's description of itself: sizes, defaults, limits. It is kept while Triton stays up.

        Raises:
            NotFoundError: the model does not describe itself.
            InferenceError: its description is not a JSON object.
        """
        configs = await self._declaration.configs()
        async with self._describing:
            if self._described is None or self._described[0] is not configs:
                return await self._refresh_description(configs)
            return self._described[1]

    @property
    def unavailable(self) -> ModelNotReadyError | None:
        """Why the model cannot serve requests, if its last description has a reason."""
        reason = self._described[1].get("unavailable") if self._described else None
        if not isinstance(reason, str):
            return None
        return ModelNotReadyError(f"The model {self.model} is not available: {reason[:_MAX_REASON]}", retry_after_s=1.0)

    async def check_available(self, *, is_due: bool = False) -> None:
        """Refresh the description if it is a few seconds old or `is_due`: it may have become unavailable."""
        configs = self._declaration.last_configs
        if isinstance(self._triton, CanSleep):  # a request would start a sleeping Triton, or keep it awake
            return
        if configs is None or self._declaration.error is not None:
            return
        with suppress(FastAPITritonError, TimeoutError):  # it has no description, or the error is reported elsewhere
            async with asyncio.timeout(_AVAILABILITY_TIMEOUT_S), self._describing:
                if is_due or time.monotonic() > self._described_at + _AVAILABILITY_S:
                    await self._refresh_description(configs)

    async def _refresh_description(self, configs: Configs) -> dict[str, Any]:
        description = await self._request_description(configs)
        self._described, self._described_at = (configs, description), time.monotonic()
        return description

    async def _request_description(self, configs: Configs) -> dict[str, Any]:
        if configs.target.input("describe") is None:
            raise NotFoundError(f"The model {self.model} does not describe itself.")
        info = None
        async with aclosing(self._responses({"describe": True}, configs)) as responses:
            async for outputs in responses:
                info = outputs.get("info", info)
        try:
            description = orjson.loads(info or "")
        except orjson.JSONDecodeError:
            description = None
        if not isinstance(description, dict):
            raise InferenceError(f"The model {self.model} returned a description that is not a JSON object.")
        return description

    async def _responses(self, fields: Mapping[str, Any], configs: Configs) -> AsyncGenerator[dict[str, Any], None]:
        config = configs.target
        inputs = tensors.from_fields(fields, config)
        if "describe" not in inputs:
            self._pipeline.add_own_inputs(inputs, config)
        try:
            stream = self._triton.stream(self.model, inputs, request_id=current_request_id.get())
            async with aclosing(stream) as responses:
                async for outputs in responses:
                    yield tensors.to_fields(outputs, config)
        except FastAPITritonError as error:
            self._declaration.learn_from(error)
            raise


def _follow(event: StreamEvent, wait: Wait) -> None:
    """Whether the request waits in the model's queue after this event."""
    if event.kind != QUEUED:
        wait.end(has_begun=True)
    elif event.position is not None:
        wait.begin()
