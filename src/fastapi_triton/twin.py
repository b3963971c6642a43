# SPDX-License-Identifier: Apache-2.0
"""A model's streaming twin: decoupled, it tells how far it is, stops when its caller leaves, and describes itself."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, nullcontext
from dataclasses import dataclass
from typing import Any

import orjson

from fastapi_triton import contract, tensors
from fastapi_triton.admission import Admission
from fastapi_triton.declaration import Configs, Declaration
from fastapi_triton.errors import InferenceError, NotFoundError, TritonUnavailableError
from fastapi_triton.middleware.request_id import current_request_id
from fastapi_triton.triton.client import TritonClient

QUEUED, PROGRESS, COMPLETED = "queued", "progress", "completed"
# The twin's own input that says after how many steps a preview comes.
PREVIEW_FIELD = "preview_every"
_TOLD = ("step", "num_steps", "preview")


@dataclass(frozen=True, slots=True)
class TwinEvent:
    """One response of the twin: its kind, and its other outputs as plain values."""

    kind: str
    fields: Mapping[str, Any]

    @property
    def progress(self) -> dict[str, Any]:
        """How far it is, as far as the event tells."""
        return {name: self.fields[name] for name in _TOLD if self.fields.get(name) not in (None, "")}


class Twin:
    """The stream model behind an endpoint."""

    def __init__(self, model: str, declaration: Declaration, *, triton: TritonClient, admission: Admission) -> None:
        self.model = model
        self._declaration = declaration
        self._triton = triton
        self._admission = admission
        self._described: tuple[Configs, dict[str, Any]] | None = None
        self._describing = asyncio.Lock()

    async def events(self, fields: Mapping[str, Any], *, is_admitted: bool = False) -> AsyncGenerator[TwinEvent, None]:
        """What the twin tells of one request, up to its end; one event is `completed`.

        It holds its place in flight, unless `is_admitted` says that the caller of this method holds it already.

        Raises:
            OverloadedError: every place is taken.
            InferenceError: the stream ended without `completed`.
            FastAPITritonError: whatever else `TritonClient.stream` meets.
        """
        with nullcontext() if is_admitted else self._admission.slot():
            is_completed = False
            configs = await self._declaration.configs()
            async with aclosing(self._responses(fields, configs)) as responses:
                async for outputs in responses:
                    kind = outputs.pop(contract.EVENT_OUTPUT, None)
                    is_completed = is_completed or kind == COMPLETED
                    if kind in (QUEUED, PROGRESS, COMPLETED):  # a newer model may tell more than we know of
                        yield TwinEvent(kind, outputs)
            if not is_completed:
                raise InferenceError(f"The model {self.model} ended its stream without an answer.")

    async def describe(self) -> dict[str, Any]:
        """What the twin says of itself: sizes, defaults, limits. It is asked once for as long as Triton stays up.

        Raises:
            NotFoundError: the twin takes no such question.
            InferenceError: its answer is no JSON object.
        """
        configs = await self._declaration.configs()
        async with self._describing:
            if self._described is None or self._described[0] is not configs:
                self._described = (configs, await self._ask_description(configs))
            return self._described[1]

    async def _ask_description(self, configs: Configs) -> dict[str, Any]:
        if configs.asked.input("describe") is None:
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
            raise InferenceError(f"The model {self.model} gave a description that is no JSON object.")
        return description

    async def _responses(self, fields: Mapping[str, Any], configs: Configs) -> AsyncGenerator[dict[str, Any], None]:
        inputs = tensors.from_fields(fields, configs.asked)
        try:
            stream = self._triton.stream(self.model, inputs, request_id=current_request_id.get())
            async with aclosing(stream) as responses:
                async for outputs in responses:
                    yield tensors.to_fields(outputs, configs.asked)
        except TritonUnavailableError:
            self._declaration.forget()
            raise
