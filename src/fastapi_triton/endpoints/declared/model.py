# SPDX-License-Identifier: Apache-2.0
"""Runs a declared endpoint's model: the fields of one pydantic model → tensors → Triton → the fields of another."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from pydantic import BaseModel

from fastapi_triton.core.context import current_request_id
from fastapi_triton.core.errors import FastAPITritonError, InvalidRequestError
from fastapi_triton.endpoints import responses
from fastapi_triton.endpoints.declared import tensors
from fastapi_triton.endpoints.declared.declaration import Declaration
from fastapi_triton.endpoints.declared.stream_model import PREVIEW_FIELD, StreamModel
from fastapi_triton.endpoints.fields import rename_tensors, tensor_names, tensor_values
from fastapi_triton.endpoints.interfaces import COMPLETED, ProgressListener, Services
from fastapi_triton.endpoints.sse import Event

# The number of steps between previews, if the client reads events and does not set it.
DEFAULT_PREVIEW_EVERY = 1


class DeclaredModel:
    """Runs the model of a declaration, or its stream model if it has one. The request must hold its slot.

    `names` are the names that clients use for tensors. None: clients know none of the tensors.
    """

    def __init__(self, declaration: Declaration, services: Services, names: Mapping[str, str] | None) -> None:
        self.declaration = declaration
        self.stream: StreamModel | None = None
        if declaration.stream_model:
            self.stream = StreamModel(declaration.stream_model, declaration, services)
        self._services = services
        self._names = names
        self._outputs = declaration.response

    async def run(self, inputs: BaseModel, listener: ProgressListener | None = None) -> BaseModel:
        """Run the model once. Raises what `TritonClient` raises, with tensors renamed to the client's fields."""
        try:
            if self.stream is None:
                return await self._infer(tensor_values(inputs))
            values = tensor_values(inputs)
            if listener is None:
                event = await self.stream.last_event({**values, PREVIEW_FIELD: None})  # no client sees previews
            else:
                event = await self.stream.last_event(_with_previews(values), listener.progressed)
            return responses.read(self._outputs, event.fields, model=self.stream.model)
        except FastAPITritonError as error:
            rename_tensors(error, self._names)
            raise

    async def events(self, inputs: BaseModel) -> AsyncGenerator[Event, None]:
        """Run the model once, and yield the events for the client.

        Raises:
            TypeError: there is no stream model.
        """
        if self.stream is None:
            raise TypeError(f"{self.declaration.path} has no stream model")
        try:
            async with aclosing(self.stream.events(_with_previews(tensor_values(inputs)))) as events:
                async for event in events:
                    if event.kind == COMPLETED:
                        result = responses.read(self._outputs, event.fields, model=self.stream.model)
                        yield Event(event.kind, responses.to_json(result).decode())
                    else:
                        yield Event(event.kind, responses.encode(event.progress).decode())
        except FastAPITritonError as error:
            rename_tensors(error, self._names)
            raise

    def require_fitting(self, inputs: BaseModel) -> None:
        """Check values against the model's config, if it is known.

        Raises:
            InvalidRequestError: a value does not fit its tensor.
        """
        configs = self.declaration.last_configs
        if configs is None:
            return
        try:
            tensors.from_fields(tensor_values(inputs), configs.target)
        except InvalidRequestError as error:
            rename_tensors(error, self._names)
            raise

    async def _infer(self, values: Mapping[str, Any]) -> BaseModel:
        config = (await self.declaration.configs()).target
        inputs = tensors.from_fields(values, config)
        self._services.pipeline.add_own_inputs(inputs, config)
        try:
            outputs = await self._services.triton.infer(
                self.declaration.model,
                inputs,
                outputs=list(tensor_names(self._outputs).values()),
                request_id=current_request_id.get(),
            )
        except FastAPITritonError as error:
            self.declaration.learn_from(error)
            raise
        return responses.read(self._outputs, tensors.to_fields(outputs, config), model=self.declaration.model)


def _with_previews(values: dict[str, Any]) -> dict[str, Any]:
    if values.get(PREVIEW_FIELD) is not None:
        return values
    return {**values, PREVIEW_FIELD: DEFAULT_PREVIEW_EVERY}
