# SPDX-License-Identifier: Apache-2.0
"""A declared endpoint for the picture APIs: it makes one or several pictures from a prompt and an optional scribble."""

import asyncio
import math
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, Self

from pydantic import BaseModel, create_model

from fastapi_triton.core.errors import InferenceError, InvalidRequestError, NotFoundError
from fastapi_triton.core.wrong_values import described
from fastapi_triton.endpoints import content_negotiation, images, responses, seeds
from fastapi_triton.endpoints.declared import tensors
from fastapi_triton.endpoints.declared.endpoint import InferEndpoint
from fastapi_triton.endpoints.declared.stream_model import PREVIEW_FIELD
from fastapi_triton.endpoints.fields import client_names, rename_tensors, tensor_names
from fastapi_triton.endpoints.interfaces import COMPLETED, StreamEvent
from fastapi_triton.endpoints.request_body import validation

# The most pictures in one request, as in OpenAI's API.
MAX_PICTURES = 10
# The weight of a difference in area, compared with a difference in shape.
_AREA_WEIGHT = 0.1
# As in the engine's `picture_sizes`: the smallest area, relative to the default's, from which it upscales a picture,
# and how much it stretches it.
_SMALLEST_AREA = 0.7
_MAX_STRETCH = 0.06

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
    """The model's description of itself. Fields that it omits are empty."""

    name: str
    sizes: tuple[Size, ...] = ()
    schedulers: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    loras: tuple[Mapping[str, Any], ...] = ()
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    max_upscale: float = 1.0  # the model upscales its pictures to larger requested sizes, by up to this factor

    @classmethod
    def of_description(cls, description: Mapping[str, Any], *, name: str) -> Self:
        """From the response of `describe`; `name` is the default for a missing name."""
        return cls(
            name=description.get("name", name),
            sizes=tuple((int(width), int(height)) for width, height in description.get("sizes", ())),
            schedulers=tuple(description.get("schedulers", ())),
            defaults=description.get("defaults", {}),
            loras=tuple(description.get("loras", ())),
            presets=description.get("presets", {}),
            max_upscale=description.get("limits", {}).get("max_upscale", 1.0),
        )

    def nearest_size(self, wanted: Size) -> Size:
        """The size itself if the model supports it, else the nearest one by shape and, with less weight, by area.

        If the model upscales its pictures, the nearest larger size is not one of `sizes`.
        """
        if wanted in self.sizes or not self.sizes:
            return wanted

        def distance(size: Size) -> float:
            return _shape_distance(size, wanted) + _AREA_WEIGHT * abs(math.log(_area(size) / _area(wanted)))

        upscaled = self._upscaled(wanted)
        if upscaled is None:
            return min(self.sizes, key=distance)
        # The model may upscale the chosen size from another one than the wanted size, and less.
        return wanted if upscaled == wanted else self.nearest_size(upscaled)

    def _upscaled(self, wanted: Size) -> Size | None:
        """The nearest size to which the model upscales a picture; None for a size that is not larger."""
        usual = self.defaults.get("width", 1) * self.defaults.get("height", 1)
        made = min(
            (size for size in self.sizes if _area(size) > _SMALLEST_AREA * usual),
            key=lambda size: (round(_shape_distance(size, wanted), 2), abs(math.log(_area(size) / usual))),
            default=self.sizes[0],
        )
        scale = min(self.max_upscale, math.sqrt(_area(wanted) / _area(made)))
        if scale <= 1:
            return None
        is_near = _shape_distance(made, wanted) <= _MAX_STRETCH
        if is_near and max(wanted[0] / made[0], wanted[1] / made[1]) <= self.max_upscale:
            return wanted
        return (int(made[0] * scale), int(made[1] * scale))

    def size_fields(self, wanted: Size, note: Callable[[str], None]) -> dict[str, int]:
        """`width` and `height` of the nearest size, with a note if it differs from the requested one."""
        width, height = self.nearest_size(wanted)
        if (width, height) != wanted:
            note(f"{wanted[0]}x{wanted[1]} is not supported; the nearest size, {width}x{height}, is used.")
        return {"width": width, "height": height}

    def size_shaped_like(self, preview: Size) -> Size:
        """The picture's size, by the shape of its preview, for requests without a size; else the preview's own."""
        same_shape = [size for size in self.sizes if size[0] * preview[1] == size[1] * preview[0]]
        area = self.defaults.get("width", 1) * self.defaults.get("height", 1)
        return min(same_shape, key=lambda size: abs(math.log(size[0] * size[1] / area)), default=preview)


def _shape_distance(size: Size, other: Size) -> float:
    return abs(math.log(size[0] * other[1] / (size[1] * other[0])))


def _area(size: Size) -> int:
    return size[0] * size[1]


def model_notes(infos: Iterable[Mapping[str, Any]]) -> list[str]:
    """The notes of the model about its pictures, each once."""
    notes = [note for info in infos for note in info.get("notes") or ()]
    return list(dict.fromkeys(note for note in notes if isinstance(note, str)))


class Listener(Protocol):
    """Receives the progress and the pictures of one request; `index` is the picture's number, from 0."""

    def progressed(self, index: int, event: StreamEvent) -> None: ...

    def finished(self, index: int, picture: Picture) -> None: ...


def scribble_field(endpoint: InferEndpoint) -> str | None:
    """The request field with the scribble; None if the endpoint does not make a picture from a prompt and a scribble.

    The scribble is `image`, or else the only picture. Other pictures must be optional.
    """
    fields = endpoint.request_model.model_fields
    pictures = images.fields(endpoint.request_model)
    if endpoint.picture_field is None or "prompt" not in fields or not pictures:
        return None
    if "image" not in pictures:
        return pictures[0] if len(pictures) == 1 else None
    return None if any(fields[name].is_required() for name in pictures if name != "image") else "image"


class TextToImage:
    """Makes pictures with an endpoint's stream model, from a prompt and a scribble. The endpoint's own limits apply."""

    def __init__(self, endpoint: InferEndpoint) -> None:
        if endpoint.stream is None or not self.fits(endpoint):
            raise TypeError(f"{endpoint.path} has no stream model that makes pictures from a prompt and a scribble")
        self.endpoint = endpoint
        self.name = endpoint.model
        self.pipeline = endpoint.services.pipeline
        self._stream = endpoint.stream
        self._tensor_names = tensor_names(endpoint.request_model)
        # The stream model also makes pictures without a scribble, so `image` is optional here.
        self._request: type[BaseModel] = create_model(
            endpoint.request_model.__name__, __base__=endpoint.request_model, image=(str | None, None)
        )

        # Copies of the other fields alone, so without validators of the whole request.
        others: Any = {
            name: (declared.annotation, copy(declared))
            for name, declared in endpoint.request_model.model_fields.items()
            if not images.holds_picture(declared)
        }
        self._without_pictures: type[BaseModel] = create_model(
            endpoint.request_model.__name__, __config__=endpoint.request_model.model_config, **others
        )

    @staticmethod
    def fits(endpoint: InferEndpoint) -> bool:
        """Whether the picture APIs can use this endpoint: it makes pictures from scribbles, and streams events."""
        return content_negotiation.EVENTS in endpoint.offers and scribble_field(endpoint) == "image"

    @property
    def max_pictures(self) -> int:
        """The most pictures in one request."""
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

    def check(
        self, fields: Mapping[str, Any], note: Callable[[str], None], *, implied: Collection[str] = ()
    ) -> dict[str, Any]:
        """Validate the fields of one picture. Returns the endpoint's fields with its defaults.

        There is a note for each field that the endpoint does not have, unless it is `implied`: the client did not send
        it.

        Raises:
            InvalidRequestError: a field is not valid for the endpoint.
        """
        declared = {name: value for name, value in fields.items() if name in self._request.model_fields}
        for name, value in fields.items():
            if value is not None and name not in declared and name not in implied:
                note(f"`{name}` is {described(value)}, and was ignored: the endpoint has no such field.")
        request = validation.from_python(declared, self._request)
        self.pipeline.record_texts(request)
        return {name: getattr(request, name) for name in self._request.model_fields}

    async def require_valid_without_pictures(self, fields: Mapping[str, Any], count: int) -> None:
        """Check the fields of `count` pictures except those that hold pictures, which are fetched afterwards.

        Raises:
            InvalidRequestError: a field is not valid for the endpoint, or does not fit the model's datatype.
        """
        others = {name: value for name, value in fields.items() if name in self._without_pictures.model_fields}
        validation.from_python(others, self._without_pictures)
        await self.require_fitting(self.batch(others, count))

    def batch(self, fields: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
        """The fields of `count` pictures, with the seeds seed, seed + 1 … A missing seed is drawn here.

        Raises:
            InvalidRequestError: more than `max_pictures`.
        """
        if not 1 <= count <= self.max_pictures:
            raise InvalidRequestError(
                f"The request is for {count} pictures; this server makes 1 to {self.max_pictures} per request.",
                code="out_of_range",
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
        """Make all pictures at the same time. If one fails, the others are cancelled, and its error is raised.

        The caller of this function holds a slot for each picture.
        """
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._make(index, fields | {PREVIEW_FIELD: preview_every}, listener))
                    for index, fields in enumerate(batch)
                ]
        except ExceptionGroup as group_of_errors:
            raise group_of_errors.exceptions[0] from None
        return [task.result() for task in tasks]

    async def require_fitting(self, batch: Sequence[Mapping[str, Any]]) -> None:
        """Check the numbers of all pictures, such as the last seed, before the first picture begins.

        Raises:
            InvalidRequestError: a number does not fit the model's datatype.
        """
        config = (await self.endpoint.declaration.configs()).target
        for fields in batch:
            numbers = {name: value for name, value in fields.items() if isinstance(value, int | float)}
            try:
                tensors.from_fields(self._tensor_values(numbers), config)
            except InvalidRequestError as error:
                rename_tensors(error, client_names(self.endpoint.request_model))
                raise

    async def _make(self, index: int, fields: Mapping[str, Any], listener: Listener | None) -> Picture:
        progressed = None if listener is None else partial(listener.progressed, index)
        picture = self._picture(await self._stream.last_event(self._tensor_values(fields), progressed))
        if listener is not None:
            listener.finished(index, picture)
        return picture

    async def events(self, fields: Mapping[str, Any]) -> AsyncGenerator[StreamEvent | Picture, None]:
        """Make one picture: yields its progress, then the picture. The caller of this function holds the slot."""
        async with aclosing(self._stream.events(self._tensor_values(fields))) as events:
            async for event in events:
                yield self._picture(event) if event.kind == COMPLETED else event

    def _tensor_values(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        return {self._tensor_names.get(name, name): value for name, value in fields.items()}

    def _picture(self, event: StreamEvent) -> Picture:
        response = responses.read(self.endpoint.response_model, event.fields, model=self._stream.model)
        values = responses.plain(response)
        text = values.get(self.endpoint.picture_field or "", "")
        try:
            data = images.decode(text)
            size = images.size(data)
        except ValueError:
            raise InferenceError(f"The model {self._stream.model} returned data that is not a picture.") from None
        info = values.get("info")
        output_format = content_negotiation.FORMAT_NAMES.get(images.media_type(data) or "", "")
        return Picture(text, output_format, size, values.get("seed"), info if isinstance(info, dict) else {})
