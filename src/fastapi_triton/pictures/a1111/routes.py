# SPDX-License-Identifier: Apache-2.0
"""A1111's API in front of a declared endpoint: `txt2img` and `img2img`, their progress, and discovery routes."""

import asyncio
import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive

from fastapi_triton.core import paths
from fastapi_triton.core.request_record import current_record
from fastapi_triton.endpoints import content_negotiation, openapi, responses
from fastapi_triton.endpoints.declared.model import DEFAULT_PREVIEW_EVERY
from fastapi_triton.endpoints.pipeline import Translation
from fastapi_triton.endpoints.request_body import json_text, large_json, raw_body, validation
from fastapi_triton.pictures import loras, previews
from fastapi_triton.pictures.a1111 import controlnet, errors, samplers, schemas
from fastapi_triton.pictures.a1111.checkpoints import OPTION, Checkpoints
from fastapi_triton.pictures.a1111.img2img import Img2ImgRequest
from fastapi_triton.pictures.a1111.schemas import PicturesPlan, PicturesRequest, Txt2ImgRequest
from fastapi_triton.pictures.a1111.tasks import COOKIE, Task, TaskOwner, Tasks
from fastapi_triton.pictures.picture_models import PictureModels
from fastapi_triton.pictures.text_to_image import Capabilities, TextToImage, model_notes
from fastapi_triton.pictures.unserved_fields import query_notes

_V1 = f"{paths.A1111}/v1"
# Clients request these lists before their first picture. Most of them are empty.
_EMPTY: dict[str, Any] = {
    "cmd-flags": {},
    "embeddings": {"loaded": {}, "skipped": {}},
    "latent-upscale-modes": [],
    "prompt-styles": [],
    "scripts": {"txt2img": ["controlnet"], "img2img": ["controlnet"]},
    "sd-vae": [],
    "upscalers": [],
}


def router(models: PictureModels) -> APIRouter:
    """The routes under `/sdapi/v1` and `/controlnet`."""
    routes = APIRouter(tags=["A1111"])
    tasks = Tasks()
    checkpoints = Checkpoints(models)
    _add_pictures(routes, checkpoints, tasks)
    _add_discovery(routes, checkpoints)
    _add_controlnet(routes, models.default)
    return routes


def _add_pictures(routes: APIRouter, checkpoints: Checkpoints, tasks: Tasks) -> None:
    @routes.post(
        f"{_V1}/txt2img",
        summary="Make pictures from a prompt, with a scribble in a ControlNet unit",
        response_model=None,
        openapi_extra=openapi.request_body(validation.JSON, model=Txt2ImgRequest),
    )
    async def txt2img(request: Request) -> Response:
        return await PicturesTranslation(request, Txt2ImgRequest, checkpoints, tasks).serve(request.receive)

    @routes.post(
        f"{_V1}/img2img",
        summary="Change a picture, or a region of it, with a scribble in a ControlNet unit",
        response_model=None,
        openapi_extra=openapi.request_body(validation.JSON, model=Img2ImgRequest),
    )
    async def img2img(request: Request) -> Response:
        return await PicturesTranslation(request, Img2ImgRequest, checkpoints, tasks).serve(request.receive)

    @routes.get(f"{_V1}/progress", summary="Get the progress of the client's own picture", response_model=None)
    async def progress(request: Request, id_task: str | None = None, skip_current_image: bool = False) -> Response:
        task = tasks.find(TaskOwner.of(request), id_task)
        body = await _progress(task, with_image=not skip_current_image)
        return Response(responses.encode(body), media_type=content_negotiation.JSON)

    @routes.post(f"{_V1}/interrupt", summary="Interrupt the client's own picture", response_model=None)
    async def interrupt(request: Request, id_task: str | None = None) -> Response:
        task = tasks.find(TaskOwner.of(request), id_task)
        if task is not None:
            task.interrupt()
        return JSONResponse({})


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
        self.body = schemas.read(await raw_body.read(receive), self._kind, limits)

    async def prepare(self) -> None:
        settings = self.body.override_settings or {}
        model = await self._checkpoints.of_request(self._owner, settings)
        self._text_to_image, self.admission = model, model.endpoint.admission
        current_record.get().model = model.name
        self.plan = schemas.plan(self.body, model, await model.capabilities())
        self.plan.notes.extend(query_notes(self._query))
        if missing := self._checkpoints.missing(self._owner, settings):
            self.plan.notes.append(f"The chosen model {missing} is not available; {model.name} was used.")
        self.num_slots = len(self.plan.batch)
        task = self._task = self._tasks.add(self._owner, self.num_slots, task_id=self.body.force_task_id)
        task.serving, self.ticket = self._serving, task.ticket
        await model.require_fitting(self.plan.batch)

    async def run(self) -> None:
        model, batch = self._text_to_image, self.plan.batch
        await model.generate(batch, preview_every=DEFAULT_PREVIEW_EVERY, listener=self._task)

    async def respond(self) -> Response:
        if self._task is None:
            raise RuntimeError("`prepare` was not called")
        body = await _response_body(self.body, self.plan, self._task)
        return Response(responses.encode(body), media_type=content_negotiation.JSON)


def _add_discovery(routes: APIRouter, checkpoints: Checkpoints) -> None:
    async def capabilities_for(request: Request) -> Capabilities:
        return await checkpoints.current(TaskOwner.of(request)).capabilities()

    def add(name: str, content: Any) -> None:
        async def route(request: Request) -> Response:
            body = content(await capabilities_for(request)) if callable(content) else content
            return _with_session(request, JSONResponse(body))

        summary = f"A1111's {name}"
        routes.add_api_route(f"{_V1}/{name}", route, methods=["GET"], summary=summary, response_model=None)

    for name, content in _EMPTY.items():
        add(name, content)
    add("loras", loras.listed)
    add("options", _options)
    add("samplers", samplers.listed)
    add("schedulers", samplers.listed_schedules())

    @routes.get(f"{_V1}/sd-models", summary="A1111's sd-models", response_model=None)
    async def sd_models(request: Request) -> Response:
        return _with_session(request, JSONResponse(await checkpoints.listed()))

    options_body = {"schema": {"type": "object"}, "example": {OPTION: "demo_checkpoint"}}

    @routes.post(
        f"{_V1}/options",
        summary="Chooses the client's checkpoint. Other options are accepted with their current values only",
        response_model=None,
        openapi_extra={"requestBody": {"required": True, "content": {validation.JSON: options_body}}},
    )
    async def set_options(request: Request) -> Response:
        current = _options(await capabilities_for(request))
        body = await raw_body.read(request.receive)
        validation.require_few_elements(body, validation.FEW_ELEMENTS)
        large_json.require_cheap(body, checkpoints.models.default.endpoint.services.image_limits.max_text_bytes)
        options = json_text.parse(body)
        json_text.require_unique_members(body, json_text.num_members(options))
        schemas.require_options(options, current)
        if options.get(OPTION) not in (None, "", current[OPTION]):
            await checkpoints.choose(TaskOwner.of(request), options[OPTION])
        return JSONResponse(None)


def _add_controlnet(routes: APIRouter, model: TextToImage) -> None:
    models = controlnet.control_models(model)
    modules = list(controlnet.MODULES)
    scribble = {"module_list": modules, "model_list": models, "default_option": "none", "default_model": models[0]}
    contents: dict[str, Any] = {
        "version": {"version": 3},
        "model_list": {"model_list": models},
        "module_list": {"module_list": modules, "module_detail": {}},
        "control_types": {"control_types": {"All": scribble, "Scribble": scribble}},
        "settings": {"control_net_unit_count": 1},
    }

    def add(name: str, content: Any) -> None:
        async def route() -> Response:
            return JSONResponse(content)

        summary = f"The ControlNet extension's {name}"
        routes.add_api_route(f"/controlnet/{name}", route, methods=["GET"], summary=summary, response_model=None)

    for name, content in contents.items():
        add(name, content)


def _with_session(request: Request, response: Response) -> Response:
    """Set a session cookie, which identifies the client even if many clients share an IP address."""
    if COOKIE not in request.cookies:
        root = request.scope.get("root_path", "")
        response.set_cookie(COOKIE, secrets.token_urlsafe(16), httponly=True, samesite="lax", path=f"{root}/sdapi")
    return response


def _options(capabilities: Capabilities) -> dict[str, Any]:
    return {OPTION: capabilities.name, "samples_format": "png"}


async def _response_body(request: PicturesRequest, plan: PicturesPlan, task: Task) -> dict[str, Any]:
    """The response body. For interrupted pictures it has the last preview."""
    of_model = model_notes(picture.info for _, picture in sorted(task.pictures.items()))
    notes = [*plan.notes, *map(errors.renamed, of_model)]
    images: list[str] = []
    for index in range(task.count):
        if index in task.pictures:
            images.append(task.pictures[index].base64)
            continue
        step, num_steps = task.steps.get(index, (0, 0))
        moment = f"at step {step} of {num_steps}" if step else "before its first step"
        notes.append(
            f"Picture {index + 1} was interrupted {moment}. The response has its last preview instead, if there is one."
        )
        if index in task.previews:
            picture, _ = await previews.as_whole_picture(
                task.previews[index], plan.batch[index], plan.capabilities, output_format="png"
            )
            images.append(picture)
    info = {**_info(request, plan, task), "notes": notes}
    return {
        "images": images if request.send_images else [],
        "parameters": request.model_dump(
            exclude={"alwayson_scripts", "init_images", "mask", *(request.model_extra or {})}
        ),
        "info": responses.encode(info).decode(),
        "notes": notes,
    }


def _info(request: PicturesRequest, plan: PicturesPlan, task: Task) -> dict[str, Any]:
    """How the pictures were made, in A1111's fields. `info` has the model's own information about each picture."""
    infos = [task.pictures[index].info if index in task.pictures else {} for index in range(task.count)]
    used = next((each for each in infos if each), {})
    seeds = [fields.get("seed") for fields in plan.batch]
    info = {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt or "",
        "seed": seeds[0],
        "width": used.get("width"),
        "height": used.get("height"),
        "steps": used.get("num_inference_steps"),
        "cfg_scale": used.get("guidance_scale"),
        "sampler_name": plan.sampler,
        "sd_model_name": used.get("checkpoint"),
        "denoising_strength": used.get("strength"),
    }
    return info | {
        "all_prompts": [request.prompt] * task.count,
        "all_negative_prompts": [request.negative_prompt or ""] * task.count,
        "all_seeds": seeds,
        "batch_size": request.batch_size,
        "index_of_first_image": 0,
        "infotexts": [_infotext({**info, "seed": seed}, used) for seed in seeds],
        "job_timestamp": _timestamp(task.started),
        "info": infos,
    }


def _infotext(info: dict[str, Any], used: Mapping[str, Any]) -> str:
    """The text that A1111 writes into its picture files. LoRAs and weights are in its prompt."""
    negative = f"\nNegative prompt: {info['negative_prompt']}" if info["negative_prompt"] else ""
    more = {"Denoising strength": "strength", "Mask blur": "mask_blur", "Eta": "eta"}
    others = "".join(f", {label}: {used[name]}" for label, name in more.items() if used.get(name))
    return (
        f"{info['prompt']}{negative}\nSteps: {info['steps']}, Sampler: {info['sampler_name']}, "
        f"CFG scale: {info['cfg_scale']}, Seed: {info['seed']}, Size: {info['width']}x{info['height']}, "
        f"Model: {info['sd_model_name']}{others}"
    )


async def _progress(task: Task | None, *, with_image: bool) -> dict[str, Any]:
    """The response body of `/progress`. As in A1111, it has zeros if nothing runs."""
    state = {
        "skipped": False,
        "interrupted": task is not None and task.is_interrupted,
        "stopping_generation": False,
        "job": task.id if task else "",
        "job_count": task.count if task else 0,
        "job_timestamp": _timestamp(task.started) if task else "0",
        "job_no": task.current if task else 0,
        "sampling_step": 0,
        "sampling_steps": 0,
    }
    body = {"progress": 0.0, "eta_relative": 0.0, "state": state, "current_image": None, "textinfo": None}
    if task is not None:
        done = task.progress
        state["sampling_step"], state["sampling_steps"] = task.steps.get(task.current, (0, 0))
        body |= {"progress": done, "eta_relative": (time.time() - task.started) * (1 - done) / done if done else 0.0}
        if (position := task.position) is not None:
            body["eta_relative"] = position.estimated_total_s or position.estimated_wait_s or 0.0
            body["textinfo"] = f"Waiting in the queue, at position {position.position}"
        if with_image and task.current in task.previews:
            body["current_image"] = await previews.as_picture(task.previews[task.current], output_format="png")
    return body | {"current_task": task.id if task else None}


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%d%H%M%S")
