# SPDX-License-Identifier: Apache-2.0
"""A declared endpoint as the picture APIs use it: a prompt, a sketch or none in, one or several pictures out."""

import asyncio
import math
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, Self

from pydantic import BaseModel, create_model

from fastapi_triton.core.errors import InferenceError, InvalidRequestError, NotFoundError
from fastapi_triton.endpoints import content_negotiation, images, responses, seeds
from fastapi_triton.endpoints.declared import tensors
from fastapi_triton.endpoints.declared.endpoint import InferEndpoint
from fastapi_triton.endpoints.declared.stream_model import PREVIEW_FIELD
from fastapi_triton.endpoints.fields import caller_names, rename_tensors, tensor_names
from fastapi_triton.endpoints.interfaces import COMPLETED, StreamEvent
from fastapi_triton.endpoints.request_body import validation

# The most that one request may ask for, as in OpenAI's API.
MAX_PICTURES = 10
# How much a size that is off in area weighs, beside one that is off in shape.
_AREA_WEIGHT = 0.1

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Picture:
    """A finished picture: the file as base64 text, and the model's own information about it."""

    base64: str
    output_format: str  # webp, png or jpeg
    size: Size
    seed: int | None
    info: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The model's description of itself. Fields that it leaves out are empty."""

    name: str
    sizes: tuple[Size, ...] = ()
    schedulers: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of_description(cls, description: Mapping[str, Any], *, name: str) -> Self:
        """From the response to `describe`; `name` is used if that has none."""
        return cls(
            name=description.get("name", name),
            sizes=tuple((int(width), int(height)) for width, height in description.get("sizes", ())),
            schedulers=tuple(description.get("schedulers", ())),
            defaults=description.get("defaults", {}),
        )

    def nearest_size(self, wanted: Size) -> Size:
        """The size itself if the model supports it, else the one nearest in shape and, with less weight, in area."""
        if wanted in self.sizes or not self.sizes:
            return wanted

        def distance(size: Size) -> float:
            shape = abs(math.log(size[0] * wanted[1] / (size[1] * wanted[0])))
            return shape + _AREA_WEIGHT * abs(math.log(size[0] * size[1] / (wanted[0] * wanted[1])))

        return min(self.sizes, key=distance)

    def snapped(self, wanted: Size, note: Callable[[str], None]) -> dict[str, int]:
        """The fields of the nearest size; a note says if that is another."""
        width, height = self.nearest_size(wanted)
        if (width, height) != wanted:
            note(f"The model does not do {wanted[0]}x{wanted[1]}; the nearest is {width}x{height}.")
        return {"width": width, "height": height}

    def size_shaped_like(self, preview: Size) -> Size:
        """The picture size for a preview of this size, for requests without a size; by default the preview's own."""
        alike = [size for size in self.sizes if size[0] * preview[1] == size[1] * preview[0]]
        area = self.defaults.get("width", 1) * self.defaults.get("height", 1)
        return min(alike, key=lambda size: abs(math.log(size[0] * size[1] / area)), default=preview)


class Listener(Protocol):
    """Follows the pictures of one request; `index` is that of the picture."""

    def progressed(self, index: int, event: StreamEvent) -> None: ...

    def finished(self, index: int, picture: Picture) -> None: ...


def sketch_field(endpoint: InferEndpoint) -> str | None:
    """The field for the sketch, if the endpoint can draw: a prompt and one picture in, one picture out.

    The sketch is `image`, or else the only picture. Further pictures must be optional.
    """
    fields = endpoint.request_model.model_fields
    pictures = images.fields(endpoint.request_model)
    if endpoint.picture_field is None or "prompt" not in fields or not pictures:
        return None
    if "image" not in pictures:
        return pictures[0] if len(pictures) == 1 else None
    return None if any(fields[name].is_required() for name in pictures if name != "image") else "image"


class TextToImage:
    """The stream model behind an endpoint that takes a prompt and a sketch. The endpoint's own rules hold."""

    def __init__(self, endpoint: InferEndpoint) -> None:
        if endpoint.stream is None or not self.fits(endpoint):
            raise TypeError(f"{endpoint.path} has no stream model that makes pictures from a prompt and a sketch")
        self.endpoint = endpoint
        self.name = endpoint.model
        self.pipeline = endpoint.services.pipeline
        self._stream = endpoint.stream
        self._tensor_names = tensor_names(endpoint.request_model)
        # Without a sketch the prompt decides alone, which the stream model takes even where the endpoint does not.
        self._request: type[BaseModel] = create_model(
            endpoint.request_model.__name__, __base__=endpoint.request_model, image=(str | None, None)
        )

    @staticmethod
    def fits(endpoint: InferEndpoint) -> bool:
        """Whether the picture APIs can use this endpoint: it can draw, and has events."""
        return content_negotiation.EVENTS in endpoint.offers and sketch_field(endpoint) == "image"

    @property
    def max_pictures(self) -> int:
        """The most pictures that one request may ask for."""
        return min(MAX_PICTURES, self.endpoint.admission.max_in_flight)

    async def capabilities(self) -> Capabilities:
        """The model's description of itself; empty if it does not describe itself.

        Raises:
            FastAPITritonError: the model is not available.
        """
        try:
            description = await self.endpoint.describe()
        except NotFoundError:
            description = {}
        return Capabilities.of_description(description, name=self.name)

    def check(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of one picture, with the endpoint's defaults, without fields that the endpoint does not declare.

        Raises:
            InvalidRequestError: they break the endpoint's own rules.
        """
        declared = {name: value for name, value in fields.items() if name in self._request.model_fields}
        request = validation.from_python(declared, self._request)
        self.pipeline.record_words(request)
        return {name: getattr(request, name) for name in self._request.model_fields}

    def batch(self, fields: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
        """`count` requests that differ in their seeds: seed, seed + 1 … A missing seed is drawn here.

        Raises:
            InvalidRequestError: more than `max_pictures`.
        """
        if not 1 <= count <= self.max_pictures:
            raise InvalidRequestError(
                f"{count} pictures are asked for; one request makes 1 to {self.max_pictures}.", code="out_of_range"
            )
        if seeds.FIELD not in self._request.model_fields:
            return [dict(fields)] * count
        seed = fields.get(seeds.FIELD)
        if seed is None or seed < 0:
            seed = seeds.draw(count=count)
        return [{**fields, seeds.FIELD: seed + index} for index in range(count)]

    async def generate(
        self, batch: Sequence[dict[str, Any]], *, preview_every: int | None = None, listener: Listener | None = None
    ) -> list[Picture]:
        """All pictures, made at the same time. If one fails, the others are cancelled, and its error is raised. The
        caller holds a slot for each."""
        try:
            async with asyncio.TaskGroup() as group:
                making = [
                    group.create_task(self._make(index, fields | {PREVIEW_FIELD: preview_every}, listener))
                    for index, fields in enumerate(batch)
                ]
        except ExceptionGroup as group_of_errors:
            raise group_of_errors.exceptions[0] from None
        return [task.result() for task in making]

    async def require_fitting(self, batch: Sequence[Mapping[str, Any]]) -> None:
        """Raise the error for a number that the model refuses, such as the last seed, before any picture begins."""
        config = (await self.endpoint.declaration.configs()).asked
        for fields in batch:
            numbers = {name: value for name, value in fields.items() if isinstance(value, int | float)}
            try:
                tensors.from_fields(self._tensor_values(numbers), config)
            except InvalidRequestError as error:
                rename_tensors(error, caller_names(self.endpoint.request_model))
                raise

    async def _make(self, index: int, fields: Mapping[str, Any], listener: Listener | None) -> Picture:
        progressed = None if listener is None else partial(listener.progressed, index)
        picture = self._picture(await self._stream.last_event(self._tensor_values(fields), progressed))
        if listener is not None:
            listener.finished(index, picture)
        return picture

    async def events(self, fields: Mapping[str, Any]) -> AsyncGenerator[StreamEvent | Picture, None]:
        """One picture: its progress, and then itself. The caller holds the slot."""
        async with aclosing(self._stream.events(self._tensor_values(fields))) as events:
            async for event in events:
                yield self._picture(event) if event.kind == COMPLETED else event

    def _tensor_values(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        return {self._tensor_names.get(name, name): value for name, value in fields.items()}

    def _picture(self, event: StreamEvent) -> Picture:
        answer = responses.read(self.endpoint.response_model, event.fields, model=self._stream.model)
        values = responses.plain(answer)
        text = values.get(self.endpoint.picture_field or "", "")
        try:
            data = images.decode(text)
            size = images.size(data)
        except ValueError:
            raise InferenceError(f"The model {self._stream.model} answered with what is no picture.") from None
        info = values.get("info")
        output_format = content_negotiation.FORMAT_NAMES.get(images.media_type(data) or "", "")
        return Picture(text, output_format, size, values.get("seed"), info if isinstance(info, dict) else {})
