# SPDX-License-Identifier: Apache-2.0
"""A1111's API in front of a declared endpoint: `txt2img` and `img2img`, their progress and interruption."""

import asyncio
import time

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import Receive

from fastapi_triton.core import paths
from fastapi_triton.core.request_record import current_record
from fastapi_triton.endpoints import content_negotiation, openapi, responses
from fastapi_triton.endpoints.declared.model import DEFAULT_PREVIEW_EVERY
from fastapi_triton.endpoints.pipeline import Translation
from fastapi_triton.endpoints.request_body import raw_body, validation
from fastapi_triton.pictures.a1111 import controlnet_routes, discovery, gradio_routes, processed, progress, schemas
from fastapi_triton.pictures.a1111.checkpoints import Checkpoints
from fastapi_triton.pictures.a1111.discovery import V1
from fastapi_triton.pictures.a1111.img2img import Img2ImgRequest
from fastapi_triton.pictures.a1111.progress import InternalProgressRequest
from fastapi_triton.pictures.a1111.schemas import PicturesPlan, PicturesRequest, Txt2ImgRequest
from fastapi_triton.pictures.a1111.tasks import Task, TaskOwner, Tasks
from fastapi_triton.pictures.picture_models import PictureModels
from fastapi_triton.pictures.unserved_fields import query_notes


def router(models: PictureModels) -> APIRouter:
    """The routes under `/sdapi/v1` and `/controlnet`, and those of A1111's page."""
    routes = APIRouter(tags=["A1111"])
    tasks = Tasks()
    checkpoints = Checkpoints(models)
    _add_pictures(routes, checkpoints, tasks)
    _add_task(routes, tasks)
    _add_internal_progress(routes, models, tasks)
    discovery.add(routes, checkpoints)
    controlnet_routes.add(routes, models.default)
    gradio_routes.add(routes, models)
    _add_redirects(routes)
    return routes


def _add_pictures(routes: APIRouter, checkpoints: Checkpoints, tasks: Tasks) -> None:
    @routes.post(
        f"{V1}/txt2img",
        summary="Make pictures from a prompt, with a scribble in a ControlNet unit",
        response_model=None,
        openapi_extra=openapi.request_body(validation.JSON, model=Txt2ImgRequest),
    )
    async def txt2img(request: Request) -> Response:
        return await PicturesTranslation(request, Txt2ImgRequest, checkpoints, tasks).serve(request.receive)

    @routes.post(
        f"{V1}/img2img",
        summary="Change a picture, or a region of it, with a scribble in a ControlNet unit",
        response_model=None,
        openapi_extra=openapi.request_body(validation.JSON, model=Img2ImgRequest),
    )
    async def img2img(request: Request) -> Response:
        return await PicturesTranslation(request, Img2ImgRequest, checkpoints, tasks).serve(request.receive)


def _add_task(routes: APIRouter, tasks: Tasks) -> None:
    @routes.get(f"{V1}/progress", summary="Get the progress of the client's own picture", response_model=None)
    async def get_progress(request: Request, id_task: str | None = None, skip_current_image: bool = False) -> Response:
        task = tasks.find(TaskOwner.of(request), id_task)
        body = await progress.response_body(task, with_image=not skip_current_image)
        return Response(responses.encode(body), media_type=content_negotiation.JSON)

    def add_interrupt(name: str, summary: str) -> None:
        async def interrupt(request: Request, id_task: str | None = None) -> Response:
            task = tasks.find(TaskOwner.of(request), id_task)
            if task is not None:
                task.interrupt()
            return JSONResponse({})

        routes.add_api_route(f"{V1}/{name}", interrupt, methods=["POST"], summary=summary, response_model=None)

    add_interrupt("interrupt", "Interrupt the client's own picture")
    add_interrupt("skip", "Interrupt the client's own picture: those of a request are made at the same time")


def _add_internal_progress(routes: APIRouter, models: PictureModels, tasks: Tasks) -> None:
    """The route with which A1111's page, and clients that send `force_task_id`, watch one task."""

    @routes.post(
        paths.A1111_INTERNAL_PROGRESS,
        summary="Get the progress of a task by its id",
        response_model=None,
        openapi_extra=openapi.request_body(validation.JSON, model=InternalProgressRequest),
    )
    async def get_internal_progress(request: Request) -> Response:
        limits = models.default.endpoint.services.image_limits
        wanted = await schemas.read(await raw_body.read(request.receive), InternalProgressRequest, limits)
        client = TaskOwner.of(request)
        # Without an id there is no task, as in A1111: the session cookie is for paths below /sdapi only.
        task = tasks.find(client, wanted.id_task) if wanted.id_task is not None else None
        is_finished = tasks.is_finished(client, wanted.id_task)
        body = await progress.internal_response_body(wanted, task, is_finished=is_finished)
        return Response(responses.encode(body), media_type=content_negotiation.JSON)


def _add_redirects(routes: APIRouter) -> None:
    """For clients whose server address ends with a slash, the paths with two slashes."""
    for prefix in (paths.A1111, paths.A1111_CONTROLNET):

        async def redirect(request: Request, rest: str, prefix: str = prefix) -> Response:
            query = f"?{request.url.query}" if request.url.query else ""
            return RedirectResponse(f"{request.scope.get('root_path', '')}{prefix}/{rest}{query}")

        routes.add_api_route(
            f"/{prefix}/{{rest:path}}", redirect, methods=["GET", "POST"], include_in_schema=False, response_model=None
        )


class PicturesTranslation(Translation):
    """A request to one of the two. While it waits or runs, its client can watch and interrupt it by its `Task`."""

    stops_on_disconnect = True
    body: PicturesRequest
    plan: PicturesPlan

    def __init__(self, request: Request, kind: type[PicturesRequest], checkpoints: Checkpoints, tasks: Tasks) -> None:
        self.admission = checkpoints.models.least_busy
        self.model = checkpoints.models.default.name
        self._owner = TaskOwner.of(request)
        self._query = request.query_params
        self._kind = kind
        self._is_long = False  # set by `read`
        self._checkpoints = checkpoints
        self._text_to_image = checkpoints.models.default  # until `prepare` chooses
        self._tasks = tasks
        self._task: Task | None = None  # set by `prepare`
        self._serving: asyncio.Task[Response] | None = None

    async def serve(self, receive: Receive) -> Response:
        """The response, at the end or when the task is interrupted."""
        self._serving = asyncio.create_task(self._text_to_image.pipeline.serve(self, receive))
        try:
            return await self._serving
        except asyncio.CancelledError:
            current = asyncio.current_task()
            is_interrupted = self._task is not None and self._task.is_interrupted
            if not is_interrupted or (current is not None and current.cancelling()):
                raise
            return await self.respond()
        finally:
            if self._task is not None:
                self._tasks.remove(self._task)

    async def read(self, receive: Receive) -> None:
        limits = self._text_to_image.endpoint.services.image_limits
        body = await raw_body.read(receive)
        self._is_long = len(body) > raw_body.LONG_BYTES
        self.body = await schemas.read(body, self._kind, limits)

    async def prepare(self) -> None:
        settings = self.body.override_settings or {}
        model = await self._checkpoints.of_request(self._owner, settings)
        self._text_to_image, self.admission = model, model.endpoint.admission
        current_record.get().model = model.name
        # It reads the pictures of ControlNet units.
        self.plan = await raw_body.process(self._is_long, schemas.plan, self.body, model, await model.capabilities())
        self.plan.notes.extend(query_notes(self._query))
        if missing := self._checkpoints.missing(self._owner, settings):
            self.plan.notes.append(f"The chosen model {missing} is not available; {model.name} was used.")
        self.num_slots = len(self.plan.batch)
        task = self._task = self._tasks.add(self._owner, self.num_slots, task_id=self.body.force_task_id)
        task.serving, self.ticket = self._serving, task.ticket
        await model.require_fitting(self.plan.batch)

    async def run(self) -> None:
        model, batch = self._text_to_image, self.plan.batch
        if self._task is not None:
            self._task.began = time.time()
        await model.generate(batch, preview_every=DEFAULT_PREVIEW_EVERY, listener=self._task)

    async def respond(self) -> Response:
        if self._task is None:
            raise RuntimeError("`prepare` was not called")
        body = await processed.response_body(self.body, self.plan, self._task)
        return Response(responses.encode(body), media_type=content_negotiation.JSON)
