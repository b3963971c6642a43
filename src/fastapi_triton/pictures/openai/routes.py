# SPDX-License-Identifier: Apache-2.0
"""OpenAI's Images API in front of a declared endpoint: `/v1/images/generations`, `/v1/images/edits`, `/v1/models`."""

import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive

from fastapi_triton.admission.fair_queue import QueueTicket
from fastapi_triton.core import paths
from fastapi_triton.core.errors import FastAPITritonError
from fastapi_triton.core.request_record import current_record
from fastapi_triton.endpoints import openapi, responses
from fastapi_triton.endpoints.declared.stream_model import PREVIEW_FIELD
from fastapi_triton.endpoints.interfaces import StreamEvent
from fastapi_triton.endpoints.pipeline import Translation
from fastapi_triton.endpoints.request_body import validation
from fastapi_triton.endpoints.sse import Event, position_comment, queued_comment
from fastapi_triton.pictures import loras, previews
from fastapi_triton.pictures.openai import errors, image_urls, model_names, planning
from fastapi_triton.pictures.openai.image_urls import ImageURLs
from fastapi_triton.pictures.openai.picture_urls import PictureURLs
from fastapi_triton.pictures.openai.planning import EndpointRequest, ImagesPlan
from fastapi_triton.pictures.openai.schemas import ImagesRequest, RequestModels
from fastapi_triton.pictures.picture_models import PictureModels
from fastapi_triton.pictures.text_to_image import Picture, Size, TextToImage, model_notes
from fastapi_triton.pictures.unserved_fields import query_notes

# Clients expect this object. Nothing is counted in tokens here.
_USAGE = {
    "input_tokens": 0,
    "output_tokens": 0,
    "total_tokens": 0,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
}
_NOT_STORED = "The pictures could not be stored, so the response has b64_json instead of url."


def router(models: PictureModels, bodies: RequestModels, picture_urls: PictureURLs, image_urls: ImageURLs) -> APIRouter:
    """The routes under `/v1`."""
    routes = APIRouter(prefix=paths.OPENAI, tags=["OpenAI Images API"])
    generation, edit = bodies
    pipeline = models.default.pipeline
    started = int(time.time())

    def listed(name: str, parent: str | None = None) -> dict[str, Any]:
        described = {"id": name, "object": "model", "created": started, "owned_by": "fastapi-triton"}
        return described | ({"parent": parent} if parent else {})

    async def serve(request: Request, body: type[BaseModel], events: str) -> Response:
        translation = ImagesTranslation(request, body, models, picture_urls, image_urls, events=events)
        return await pipeline.serve(translation, request.receive)

    @routes.post(
        "/images/generations",
        summary="Make pictures from a prompt",
        response_model=None,
        openapi_extra=openapi.request_body(validation.JSON, model=generation),
    )
    async def generations(request: Request) -> Response:
        return await serve(request, generation, "image_generation")

    @routes.post(
        "/images/edits",
        summary="Make pictures from a prompt and a scribble",
        response_model=None,
        openapi_extra=openapi.request_body(validation.FORM, validation.JSON, model=edit),
    )
    async def edits(request: Request) -> Response:
        return await serve(request, edit, "image_edit")

    @routes.get("/models", summary="List the models", response_model=None)
    async def all_models() -> Response:
        with_loras = [listed(name, parent) for name, parent in await loras.model_names(models)]
        return JSONResponse({"object": "list", "data": [*map(listed, models.names), *with_loras]})

    @routes.get("/models/{name:path}", summary="Get a model by any name that requests may have", response_model=None)
    async def one_model(name: str) -> Response:
        return JSONResponse(listed(name, await model_names.listed_as(name, models)))

    return routes


class ImagesTranslation(Translation):
    """A request to OpenAI's Images API. `events` is the prefix of its events' names."""

    stops_on_disconnect = True
    body: BaseModel
    plan: ImagesPlan
    pictures: list[Picture]

    def __init__(
        self,
        request: Request,
        body_model: type[BaseModel],
        models: PictureModels,
        picture_urls: PictureURLs,
        image_urls: ImageURLs,
        *,
        events: str,
    ) -> None:
        self.admission = models.least_busy
        self.model = models.default.name
        self._request = request
        self._picture_urls = picture_urls
        self._image_urls, self._share = image_urls, image_urls.share()
        self._body_model = body_model
        self._models = models
        self._text_to_image = models.default  # until `prepare` chooses
        self._event_name = events

    async def read(self, receive: Receive) -> None:
        limits = self._text_to_image.endpoint.services.image_limits
        self.body = await validation.read(self._request.scope, receive, self._body_model, limits=limits)

    @property
    def wants_events(self) -> bool:
        return isinstance(self.body, ImagesRequest) and bool(self.body.stream)

    async def prepare(self) -> None:
        named = getattr(self.body, "model", None)
        self._text_to_image = model = await model_names.choose_model(named, self._models)
        self.admission = model.endpoint.admission
        current_record.get().model = model.name
        request = await planning.translated(self.body, model)
        if image_urls.are_in(self.body):
            await self._fetch_pictures(request, model)
        self.plan = planning.plan(request, model, makes_urls=self._picture_urls.are_on)
        self.plan.notes += query_notes(self._request.query_params)
        if self.plan.urls:
            await self._picture_urls.require()
        await model.require_fitting(self.plan.batch)
        self.num_slots = len(self.plan.batch)

    async def _fetch_pictures(self, request: EndpointRequest, model: TextToImage) -> None:
        """Replace URLs by pictures, after all checks that need none: an invalid request must not fetch anything."""
        await model.require_valid_without_pictures(request.fields, request.count)
        if request.wants_urls(makes_urls=self._picture_urls.are_on):
            await self._picture_urls.require()
        limits = model.endpoint.services.image_limits
        pictures = await self._image_urls.fetch(self.body, limits, self._share)
        request.fill_in(pictures, model.endpoint.request_model)

    def close(self) -> None:
        self._share.release()

    async def run(self) -> None:
        self.pictures = await self._text_to_image.generate(self.plan.batch)

    async def respond(self) -> Response:
        urls = None
        if self.plan.urls:
            urls = await self._picture_urls.add(self.pictures, str(self._request.base_url))
            if urls is None:
                self.plan.notes.append(_NOT_STORED)
        body = _response_body(self.plan, self.pictures, urls)
        return Response(responses.encode(body), media_type="application/json")

    async def events(self) -> AsyncGenerator[Event, None]:
        """The picture's events. Only of OpenAI's kinds, because its clients pass unknown events on to the program."""
        plan, name = self.plan, self._event_name
        (fields,) = plan.batch
        num_partial = 0
        has_begun = False
        async with aclosing(self._text_to_image.events(fields | {PREVIEW_FIELD: plan.preview_every})) as stream:
            async for each in stream:
                position = each.position if isinstance(each, StreamEvent) else None
                if not has_begun or position is not None:  # the model has the request, so the response can begin
                    yield position_comment(position)
                    has_begun = True
                if isinstance(each, Picture):
                    plan.notes += model_notes((each.info,))
                    event = _event(f"{name}.completed", plan, each.base64, each.size, each.output_format)
                    yield _encoded(event | {"usage": _USAGE, "seed": each.seed, "info": each.info})
                elif num_partial < plan.partial_images and (preview := each.progress.get("preview")):
                    event = await _partial(f"{name}.partial_image", plan, preview)
                    yield _encoded(event | {"partial_image_index": num_partial})
                    num_partial += 1

    def queued(self, ticket: QueueTicket) -> Event:
        return queued_comment(ticket)

    def error_data(self, error: FastAPITritonError) -> str:
        return errors.event_data(error)


def _response_body(plan: ImagesPlan, pictures: list[Picture], urls: list[str] | None) -> dict[str, Any]:
    """The response of OpenAI's API, with `seed`, `info` and `notes` added."""
    width, height = pictures[0].size
    files = [{"url": each} for each in urls] if urls else [{"b64_json": each.base64} for each in pictures]
    body = {
        "created": int(time.time()),
        "background": "opaque",
        "data": [file | {"seed": each.seed, "info": each.info} for file, each in zip(files, pictures, strict=True)],
        "output_format": pictures[0].output_format,
        "size": f"{width}x{height}",
        "usage": _USAGE,
    }
    if notes := [*plan.notes, *model_notes(each.info for each in pictures)]:
        body["notes"] = notes
    return body


async def _partial(kind: str, plan: ImagesPlan, preview: str) -> dict[str, Any]:
    (fields,) = plan.batch
    picture, size = await previews.as_whole_picture(
        preview, fields, plan.capabilities, output_format=plan.output_format
    )
    return _event(kind, plan, picture, size, plan.output_format)


def _event(kind: str, plan: ImagesPlan, base64: str, size: Size, output_format: str) -> dict[str, Any]:
    event = {
        "type": kind,
        "b64_json": base64,
        "created_at": int(time.time()),
        "size": f"{size[0]}x{size[1]}",
        "quality": plan.quality,
        "background": "opaque",
        "output_format": output_format,
    }
    return event | {"notes": plan.notes} if plan.notes else event


def _encoded(event: Mapping[str, Any]) -> Event:
    return Event(event["type"], responses.encode(event).decode())
