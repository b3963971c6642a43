# SPDX-License-Identifier: Apache-2.0
"""Generated endpoints: JSON → the tensors of any model that Triton has → JSON, or events."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from functools import lru_cache, partial
from typing import ParamSpec, TypeVar

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive

from fastapi_triton.core.context import current_request_id
from fastapi_triton.core.errors import (
    FastAPITritonError,
    InvalidRequestError,
    ModelNotReadyError,
    UnsupportedMediaError,
    shown,
)
from fastapi_triton.core.slot import Slot, current_slot
from fastapi_triton.endpoints import content_negotiation, image_tensors
from fastapi_triton.endpoints.generated import batches, forms, pictures, sequences
from fastapi_triton.endpoints.generated.batches import Inputs, Part
from fastapi_triton.endpoints.generated.codec import GeneratedModel
from fastapi_triton.endpoints.generated.infer_path import InferOptions, InferPath
from fastapi_triton.endpoints.generated.models import GeneratedModels
from fastapi_triton.endpoints.interfaces import COMPLETED, JobSubmitter, Services
from fastapi_triton.endpoints.pipeline import Translation
from fastapi_triton.endpoints.request_body import raw_body, validation
from fastapi_triton.endpoints.sse import Event
from fastapi_triton.triton.client import Extensions, Parameters, Tensors

P = ParamSpec("P")
T = TypeVar("T")

# The event of each response of a decoupled model, before `completed`.
RESPONSE = "response"
# Longer bodies take tens of milliseconds to parse.
_LONG_BYTES = 256 * 1024


class GeneratedEndpoint:
    """Serves requests to all models that have an endpoint."""

    def __init__(self, models: GeneratedModels, services: Services) -> None:
        # None: the app has no background jobs.
        self.jobs: Callable[[InferPath], JobSubmitter] | None = None
        self.services = services
        self._models = models

    async def __call__(self, request: Request, address: InferPath) -> Response:
        """Serve one request."""
        await self._models.confirm(address.model)
        model = self.model(address)
        if self.jobs is not None and not model.config.decoupled:  # a job has one response
            jobs = self.jobs(address)
            if jobs.wants(request.scope["headers"]):
                if model.config.sequences is not None:
                    raise sequences.jobs_refusal(model.config)
                return await jobs.submit(request)
        return await self.services.pipeline.serve(GeneratedTranslation(self, model, address, request), request.receive)

    def model(self, address: InferPath) -> GeneratedModel:
        """The model with its current config, and the options of the address.

        Raises what `GeneratedModels.endpoint`, `pictures.with_options` and `GeneratedModel.with_classes` raise.
        """
        return _with_options(self._models.endpoint(address.model, address.version), address.options)

    def is_unloaded(self, address: InferPath) -> bool:
        """Whether the model was unloaded on request. False for a model that is loading or failed to load."""
        return self._models.entry(address.model).is_unloaded

    def doubt(self, address: InferPath) -> None:
        """Read the model's config again before the next request, because it may have changed."""
        self._models.doubt(address.model)


class GeneratedTranslation(Translation):
    """A request to one model: JSON or a form in; JSON, a picture or events out."""

    body: bytes
    result: bytes

    def __init__(
        self, endpoint: GeneratedEndpoint, model: GeneratedModel, address: InferPath, request: Request | None = None
    ) -> None:
        self.model = address.model
        self.admission = endpoint.services.admission.of(address.model)
        self.media_type = content_negotiation.JSON
        self._endpoint = endpoint
        self._services = endpoint.services
        self._model = model
        self._address = address
        self._accept = request.headers.get("accept") if request else None
        self._content_type = request.headers.get("content-type", validation.JSON) if request else validation.JSON

    def negotiate(self) -> None:
        """Check the media types.

        Raises:
            NotAcceptableError: the client accepts only other media types.
            UnsupportedMediaError: the client sends another media type.
        """
        self.media_type = pictures.choose_media_type(
            self._model.config, self._accept, has_classes=bool(self._model.classes)
        )
        media_type = self._sent_media_type
        takes_forms = forms.takes_forms(self._model.config)
        if media_type == validation.JSON or media_type.endswith("+json"):
            return
        if media_type != validation.FORM or not takes_forms:
            form = f", or a form as {validation.FORM}" if takes_forms else ""
            raise UnsupportedMediaError(
                f"The body's Content-Type is {shown(media_type)}; send {validation.JSON}{form}. "
                "With curl, use -H 'Content-Type: application/json'" + (", or -F for each field." if form else ".")
            )

    @property
    def _sent_media_type(self) -> str:
        return self._content_type.partition(";")[0].strip().lower()

    async def read(self, receive: Receive) -> None:
        if self._sent_media_type != validation.FORM:
            with pictures.explained_limits(self._model.config):
                self.body = await raw_body.read(receive)
            return
        form = await raw_body.read(receive)
        self.body = await in_thread_if_long(
            len(form), forms.as_json, form, self._content_type, self._model.config, self._services.image_limits
        )

    @property
    def wants_events(self) -> bool:
        return self._model.config.decoupled

    async def run(self) -> None:
        self.result = await self.infer(await self.inputs())

    async def inputs(self) -> Inputs:
        """The requests of the body. Raises what `GeneratedModel.read` and the functions of `pictures` raise."""
        config, limits = self._model.config, self._services.image_limits
        if not config.image_inputs:
            inputs = await in_thread_if_long(len(self.body), self._model.read, self.body, limits)
            num_normalized = 0
        else:
            with pictures.explained_limits(config):
                inputs, budget = await image_tensors.read_in_thread(self._model.read, self.body, limits)
            num_normalized = budget.num_normalized
        self.media_type = pictures.media_type_of_rows(self.media_type, inputs.num_rows, self._accept)
        returns_png = self.media_type == pictures.PNG or self._address.options.arrays == "png"
        pictures.require_used(self._address.options.normalize, num_normalized, config, returns_png=returns_png)
        return inputs

    async def infer(self, inputs: Inputs) -> bytes:
        """Run the model once for each part, and return the response: JSON, or a picture."""
        if len(inputs.parts) == 1:
            outputs = await self._infer(inputs.parts[0], inputs.parameters)
            if self.media_type == pictures.PNG:
                return await image_tensors.write_in_thread(pictures.as_png, self._model.config, outputs)
            return await self._json([outputs], inputs)
        return await self._json(await self._infer_parts(inputs), inputs)

    async def _infer_parts(self, inputs: Inputs) -> list[Tensors]:
        """The outputs of each part. One part after the other runs in the request's slot, others in spare slots."""
        outputs: list[Tensors] = [{}] * len(inputs.parts)
        waiting = deque(range(len(inputs.parts)))

        async def infer_part(index: int, slot: Slot | None = None) -> None:
            if slot is not None:
                current_slot.set(slot)
            outputs[index] = await self._infer_rows(inputs.parts[index], inputs.parameters)

        try:
            async with asyncio.TaskGroup() as group:
                while waiting:
                    own = waiting.popleft()
                    while waiting and (slot := self.admission.spare_slot()) is not None:
                        task = group.create_task(infer_part(waiting.popleft(), slot))
                        task.add_done_callback(partial(_release, slot))
                    await infer_part(own)
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return outputs

    async def _infer(self, part: Part, parameters: Parameters) -> Tensors:
        self._services.pipeline.add_own_inputs(part.tensors, self._model.config, len(part.rows))
        try:
            return await self._services.triton.infer(
                self.model,
                part.tensors,
                request_id=current_request_id.get(),
                version=self._address.version,
                extensions=Extensions(parameters, self._model.classes),
                outputs=self._wanted_outputs,
            )
        except (InvalidRequestError, ModelNotReadyError) as error:
            self._endpoint.doubt(self._address)
            if isinstance(error, InvalidRequestError) and self._model.config.sequences is not None:
                raise sequences.explained(error, self._model.config.sequences) from None
            raise

    @property
    def _wanted_outputs(self) -> Sequence[str]:
        """The outputs that Triton must be asked for. Empty: all."""
        if self.media_type == pictures.PNG:
            return [tensor.name for tensor in self._model.config.image_outputs]
        return [tensor.name for tensor in self._model.config.outputs] if self._model.classes else ()

    async def _infer_rows(self, part: Part, parameters: Parameters) -> Tensors:
        """Run one of several parts."""
        try:
            return await self._infer(part, parameters)
        except FastAPITritonError as error:
            batches.name_rows(error, part.rows)
            raise

    async def events(self) -> AsyncGenerator[Event, None]:
        inputs = await self.inputs()
        (part,) = inputs.parts
        self._services.pipeline.add_own_inputs(part.tensors, self._model.config)
        num_responses = 0
        stream = self._services.triton.stream(
            self.model, part.tensors, request_id=current_request_id.get(), version=self._address.version
        )
        async with aclosing(stream) as responses:
            async for outputs in responses:
                num_responses += 1
                yield Event(RESPONSE, (await self._json([outputs], inputs)).decode())
        yield Event(COMPLETED, orjson.dumps({"num_responses": num_responses}).decode())

    async def respond(self) -> Response:
        varies = {"Vary": "Accept"} if self._model.config.image_outputs else None
        return Response(self.result, headers=varies, media_type=self.media_type)

    async def _json(self, outputs: Sequence[Tensors], inputs: Inputs) -> bytes:
        num_bytes = sum(map(_num_bytes, outputs))
        return await in_thread_if_long(num_bytes, self._model.to_json, outputs, inputs, self._address.options.arrays)


@lru_cache(maxsize=500)
def _with_options(model: GeneratedModel, options: InferOptions) -> GeneratedModel:
    model = pictures.with_options(model, options.arrays, options.normalize)
    return model if options.classes is None else model.with_classes(options.classes)


def _release(slot: Slot, task: asyncio.Task[None]) -> None:
    slot.release(is_completed=not task.cancelled() and task.exception() is None)


async def in_thread_if_long(num_bytes: int, work: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """Do the work here, or in a thread if there are many bytes, so that it does not block the event loop."""
    return await raw_body.process(num_bytes > _LONG_BYTES, work, *arguments, **options)


def _num_bytes(tensors: Tensors) -> int:
    """Their approximate size; strings count as pointers."""
    return sum(tensor.array.nbytes for tensor in tensors.values())
