# SPDX-License-Identifier: Apache-2.0
"""A declared endpoint as the picture APIs of others see it: a prompt, a sketch or none, and one picture or several."""

import asyncio
import math
import secrets
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from pydantic import BaseModel, ValidationError, create_model
from starlette.types import Receive

from fastapi_triton.admission.fair_queue import QueueTicket
from fastapi_triton.core.errors import InferenceError, InvalidRequestError, NotFoundError
from fastapi_triton.core.request_record import current_observation
from fastapi_triton.endpoints import content_negotiation, images, responses
from fastapi_triton.endpoints.declared import tensors
from fastapi_triton.endpoints.declared.endpoint import InferEndpoint
from fastapi_triton.endpoints.declared.stream_model import COMPLETED, PREVIEW_FIELD, TwinEvent
from fastapi_triton.endpoints.fields import caller_names, put_in_callers_words, tensor_names
from fastapi_triton.endpoints.request_body import validation

# The most that one request may ask for, as in OpenAI's API.
MAX_PICTURES = 10
# A seed that is drawn stays below 2**53, so that JavaScript keeps it exact.
_DRAWN_SEEDS = 2**53
# How much a size that is off in area weighs, beside one that is off in shape.
_AREA_WEIGHT = 0.1

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Picture:
    """A finished picture: the file as base64 text, and what the model tells of it."""

    base64: str
    output_format: str  # webp, png or jpeg
    size: Size
    seed: int | None
    info: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the model says of itself, as far as it does."""

    name: str
    sizes: tuple[Size, ...] = ()
    schedulers: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of_description(cls, description: Mapping[str, Any], *, name: str) -> Self:
        """From the answer to `describe`; `name` where it tells none."""
        return cls(
            name=description.get("name", name),
            sizes=tuple((int(width), int(height)) for width, height in description.get("sizes", ())),
            schedulers=tuple(description.get("schedulers", ())),
            defaults=description.get("defaults", {}),
        )

    def nearest_size(self, wanted: Size) -> Size:
        """The size itself where the model does it, else the one nearest in shape and, less so, in area."""
        if wanted in self.sizes or not self.sizes:
            return wanted

        def distance(size: Size) -> float:
            shape = abs(math.log(size[0] * wanted[1] / (size[1] * wanted[0])))
            return shape + _AREA_WEIGHT * abs(math.log(size[0] * size[1] / (wanted[0] * wanted[1])))

        return min(self.sizes, key=distance)

    def size_shaped_like(self, preview: Size) -> Size:
        """The size of the picture that this is the preview of, where none was asked for; its own, if there is none."""
        alike = [size for size in self.sizes if size[0] * preview[1] == size[1] * preview[0]]
        area = self.defaults.get("width", 1) * self.defaults.get("height", 1)
        return min(alike, key=lambda size: abs(math.log(size[0] * size[1] / area)), default=preview)


class Listener(Protocol):
    """Hears how the pictures of one request come on; `index` says which."""

    def progressed(self, index: int, event: TwinEvent) -> None: ...

    def finished(self, index: int, picture: Picture) -> None: ...


class TextToImage:
    """The stream model behind an endpoint that takes a prompt and a sketch. The endpoint's own rules hold."""

    def __init__(self, endpoint: InferEndpoint) -> None:
        if endpoint.twin is None or not self.fits(endpoint):
            raise TypeError(f"{endpoint.path} has no stream model that makes pictures from a prompt and a sketch")
        self.endpoint = endpoint
        self.name = endpoint.model
        self._twin = endpoint.twin
        self._admission = endpoint.admission
        self._tensor_names = tensor_names(endpoint.request_model)
        # Without a sketch the prompt decides alone, which the stream model takes even where the endpoint does not.
        self._request: type[BaseModel] = create_model(
            endpoint.request_model.__name__, __base__=endpoint.request_model, image=(str | None, None)
        )

    @staticmethod
    def fits(endpoint: InferEndpoint) -> bool:
        """Whether this endpoint can be spoken to as one that makes pictures."""
        fields = endpoint.request_model.model_fields
        return (
            content_negotiation.EVENTS in endpoint.offers
            and endpoint.picture_field is not None
            and "prompt" in fields
            and "image" in fields
            and images.is_image(fields["image"].metadata)
        )

    @property
    def keeps_running(self) -> bool:
        """Whether pictures that are begun are made although their caller has left."""
        return self.endpoint.services.settings.keep_running_when_caller_leaves

    def require_room(self) -> None:
        """Refuse at once what would be refused in the end, before its body is read."""
        self._admission.require_room()

    @property
    def max_pictures(self) -> int:
        """The most pictures that one request may ask for."""
        return min(MAX_PICTURES, self._admission.max_in_flight)

    async def capabilities(self) -> Capabilities:
        """What the model says of itself; nothing, where it cannot.

        Raises:
            FastAPITritonError: it is not there to be asked.
        """
        try:
            description = await self.endpoint.describe()
        except NotFoundError:
            description = {}
        return Capabilities.of_description(description, name=self.name)

    def check(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of one picture, with the endpoint's defaults. A field that it does not declare is left out.

        Raises:
            InvalidRequestError: they break the endpoint's own rules.
        """
        current_observation.get().model = self.name
        declared = {name: value for name, value in fields.items() if name in self._request.model_fields}
        try:
            request = self._request.model_validate(declared)
        except ValidationError as error:
            details = error.errors(include_url=False, include_context=False)
            raise validation.invalid(details, validation.names(self._request)) from None
        if self.endpoint.services.settings.access_log_prompts:
            current_observation.get().texts = validation.own_words(request)
        return {name: getattr(request, name) for name in self._request.model_fields}

    def batch(self, fields: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
        """So many requests that differ in their seeds: seed, seed + 1 …; a seed that is not given is drawn here.

        Raises:
            InvalidRequestError: more than `max_pictures`.
        """
        if not 1 <= count <= self.max_pictures:
            raise InvalidRequestError(
                f"{count} pictures are asked for; one request makes 1 to {self.max_pictures}.", code="out_of_range"
            )
        if "seed" not in self._request.model_fields:
            return [dict(fields)] * count
        seed = fields.get("seed")
        if seed is None or seed < 0:
            seed = secrets.randbelow(_DRAWN_SEEDS - count)
        return [{**fields, "seed": seed + index} for index in range(count)]

    async def generate(
        self,
        batch: Sequence[dict[str, Any]],
        *,
        preview_every: int | None = None,
        listener: Listener | None = None,
        receive: Receive | None = None,
        ticket: QueueTicket | None = None,
    ) -> list[Picture]:
        """Every picture, made at the same time. When one fails, the others are stopped, and its error is raised.

        With `receive` a caller who leaves before they are begun is noticed; the `ticket` shows how long they wait.

        Raises:
            OverloadedError: there is no room for all of them; none is begun.
            FastAPITritonError: whatever else one of them meets.
        """
        await self._require_fitting(batch)
        with await self._admission.place(len(batch), receive=receive, ticket=ticket):
            try:
                async with asyncio.TaskGroup() as group:
                    making = [
                        group.create_task(self._make(index, fields | {PREVIEW_FIELD: preview_every}, listener))
                        for index, fields in enumerate(batch)
                    ]
            except ExceptionGroup as group_of_errors:
                raise group_of_errors.exceptions[0] from None
        return [task.result() for task in making]

    async def _require_fitting(self, batch: Sequence[Mapping[str, Any]]) -> None:
        """Raise the error for a number that the model refuses, such as the last seed, before any picture begins."""
        config = (await self.endpoint.declaration.configs()).asked
        for fields in batch:
            numbers = {name: value for name, value in fields.items() if isinstance(value, int | float)}
            try:
                tensors.from_fields(
                    {self._tensor_names.get(name, name): value for name, value in numbers.items()}, config
                )
            except InvalidRequestError as error:
                put_in_callers_words(error, caller_names(self.endpoint.request_model))
                raise

    async def _make(self, index: int, fields: Mapping[str, Any], listener: Listener | None) -> Picture:
        made: Picture | None = None
        async with aclosing(self._events(fields)) as events:
            async for each in events:
                if isinstance(each, Picture):
                    made = each
                elif listener is not None:
                    listener.progressed(index, each)
        if made is None:  # `Twin.events` raises before
            raise InferenceError(f"The model {self._twin.model} gave no answer.")
        if listener is not None:
            listener.finished(index, made)
        return made

    async def watch(
        self,
        fields: Mapping[str, Any],
        *,
        preview_every: int | None,
        receive: Receive | None = None,
        ticket: QueueTicket | None = None,
    ) -> AsyncGenerator[TwinEvent | Picture, None]:
        """One picture: its progress, and then itself. `receive` and `ticket` as for `generate`."""
        with await self._admission.place(receive=receive, ticket=ticket):
            async with aclosing(self._events({**fields, PREVIEW_FIELD: preview_every})) as events:
                async for each in events:
                    yield each

    async def _events(self, fields: Mapping[str, Any]) -> AsyncGenerator[TwinEvent | Picture, None]:
        values = {self._tensor_names.get(name, name): value for name, value in fields.items()}
        async with aclosing(self._twin.events(values)) as events:
            async for event in events:
                yield self._picture(event) if event.kind == COMPLETED else event

    def _picture(self, event: TwinEvent) -> Picture:
        answer = responses.read(self.endpoint.response_model, event.fields, model=self._twin.model)
        values = responses.plain(answer)
        text = values.get(self.endpoint.picture_field or "", "")
        try:
            data = images.decode(text)
            size = images.size(data)
        except ValueError:
            raise InferenceError(f"The model {self._twin.model} answered with what is no picture.") from None
        info = values.get("info")
        output_format = content_negotiation.FORMAT_NAMES.get(images.media_type(data) or "", "")
        return Picture(text, output_format, size, values.get("seed"), info if isinstance(info, dict) else {})
