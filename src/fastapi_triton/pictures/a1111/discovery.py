# SPDX-License-Identifier: Apache-2.0
"""The routes with which A1111's clients find out what a server has, and those that change nothing here."""

import asyncio
import secrets
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from fastapi_triton.core import paths
from fastapi_triton.core.errors import NotFoundError
from fastapi_triton.endpoints import openapi
from fastapi_triton.endpoints.images import Base64Image
from fastapi_triton.endpoints.request_body import raw_body, validation
from fastapi_triton.pictures import loras, unserved_fields
from fastapi_triton.pictures.a1111 import infotext, options, png_info, samplers
from fastapi_triton.pictures.a1111.checkpoints import OPTION, Checkpoints, wanted
from fastapi_triton.pictures.a1111.tasks import COOKIE, TaskOwner

V1 = f"{paths.A1111}/v1"
# As in A1111, the first one means no upscaling.
UPSCALERS = ["None"]
_UNKNOWN = {"error": "Triton makes the pictures; this server does not know its memory."}
_CONTROLNET = {"name": "controlnet", "is_alwayson": True, "args": [{"label": "Unit 0", "value": None}]}
# Lists that do not depend on the model. Most are empty: this server has none of these.
_FIXED: dict[str, Any] = {
    "cmd-flags": {"api": True},
    "embeddings": {"loaded": {}, "skipped": {}},
    "extensions": [],
    "face-restorers": [],
    "hypernetworks": [],
    "latent-upscale-modes": [],
    "memory": {"ram": _UNKNOWN, "cuda": _UNKNOWN},
    "prompt-styles": [],
    "realesrgan-models": [],
    "schedulers": samplers.listed_schedules(),
    "script-info": [{**_CONTROLNET, "is_img2img": each} for each in (False, True)],
    "scripts": {"txt2img": ["controlnet"], "img2img": ["controlnet"]},
    "sd-vae": [],
    "upscalers": [
        {"name": name, "model_name": None, "model_path": None, "model_url": None, "scale": 1} for name in UPSCALERS
    ],
}
_UP_TO_DATE = ("refresh-checkpoints", "refresh-embeddings", "refresh-loras", "refresh-vae")
_ALWAYS_LOADED = ("reload-checkpoint", "unload-checkpoint")


class PNGInfoRequest(BaseModel):
    """The body of `png-info`."""

    model_config = ConfigDict(extra="allow")

    image: Base64Image


def add(routes: APIRouter, checkpoints: Checkpoints) -> None:
    """Add the routes below `/sdapi/v1`."""
    for name, content in _FIXED.items():
        _add_list(routes, name, content, checkpoints)
    _add_list(routes, "loras", loras.listed, checkpoints)
    _add_list(routes, "samplers", samplers.listed, checkpoints)

    @routes.get(f"{V1}/sd-models", summary="A1111's sd-models", response_model=None)
    async def sd_models(request: Request) -> Response:
        return _with_session(request, JSONResponse(await checkpoints.listed()))

    @routes.get(f"{V1}/options", summary="A1111's options", response_model=None)
    async def get_options(request: Request) -> Response:
        known = options.current(await checkpoints.title(TaskOwner.of(request)))
        return _with_session(request, JSONResponse(known))

    options_body = {"schema": {"type": "object"}, "example": {OPTION: "demo_checkpoint"}}

    @routes.post(
        f"{V1}/options",
        summary="Choose the client's checkpoint. Other options are ignored, with notes in the response",
        response_model=None,
        openapi_extra={"requestBody": {"required": True, "content": {validation.JSON: options_body}}},
    )
    async def set_options(request: Request) -> Response:
        client = TaskOwner.of(request)
        limits = checkpoints.models.default.endpoint.services.image_limits
        sent = await options.read(await raw_body.read(request.receive), limits.max_text_bytes)
        if (name := wanted(sent)) is not None:
            await checkpoints.choose(client, name)
        notes = options.notes(sent, options.current(await checkpoints.title(client)))
        return JSONResponse({"notes": notes} if notes else None)

    _add_png_info(routes, checkpoints)
    _add_actions(routes)


def _add_list(routes: APIRouter, name: str, content: Any, checkpoints: Checkpoints) -> None:
    """Add a route that returns `content`, or what that makes of the model's description."""

    async def route(request: Request) -> Response:
        body = content
        if callable(content):
            body = content(await checkpoints.current(TaskOwner.of(request)).capabilities())
        return _with_session(request, JSONResponse(body))

    routes.add_api_route(f"{V1}/{name}", route, methods=["GET"], summary=f"A1111's {name}", response_model=None)


def _add_png_info(routes: APIRouter, checkpoints: Checkpoints) -> None:
    @routes.post(
        f"{V1}/png-info",
        summary="Read A1111's parameters and other texts from a picture file",
        response_model=None,
        openapi_extra=openapi.request_body(validation.JSON, model=PNGInfoRequest),
    )
    async def read_png_info(request: Request) -> Response:
        limits = checkpoints.models.default.endpoint.services.image_limits
        body = await validation.read(request.scope, request.receive, PNGInfoRequest, limits=limits)
        if not isinstance(body, PNGInfoRequest):
            raise TypeError("validated into another model")
        text, others = await png_info.read(body.image)
        parameters = await asyncio.to_thread(infotext.read, text) if text else {}
        response = {"info": text, "items": others, "parameters": parameters}
        notes = unserved_fields.notes(body.model_extra or {}, {}, PNGInfoRequest.model_fields)
        return JSONResponse(response | ({"notes": notes} if notes else {}))


def _add_actions(routes: APIRouter) -> None:
    def add(name: str, content: Any, summary: str) -> None:
        async def route() -> Response:
            return JSONResponse(content)

        routes.add_api_route(f"{V1}/{name}", route, methods=["POST"], summary=summary, response_model=None)

    for name in _UP_TO_DATE:
        add(name, None, "Does nothing: the lists are always up to date")
    for name in _ALWAYS_LOADED:
        add(name, {"notes": ["The checkpoint stays loaded: other clients use it."]}, "Does nothing: clients share it")

    @routes.post(f"{V1}/interrogate", summary="Not supported", response_model=None)
    async def interrogate() -> Response:
        raise NotFoundError("This server cannot describe pictures: it has no model for `interrogate`.")


def _with_session(request: Request, response: Response) -> Response:
    """Set a session cookie, which identifies the client even if many clients share an IP address."""
    if COOKIE not in request.cookies:
        root = request.scope.get("root_path", "")
        response.set_cookie(COOKIE, secrets.token_urlsafe(16), httponly=True, samesite="lax", path=f"{root}/sdapi")
    return response
