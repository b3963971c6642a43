# SPDX-License-Identifier: Apache-2.0
"""Routes of A1111's web page, Gradio, that older clients request. There is no page: only what is true is returned."""

from typing import Any

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from fastapi_triton.pictures.a1111 import controlnet
from fastapi_triton.pictures.a1111.discovery import UPSCALERS
from fastapi_triton.pictures.picture_models import PictureModels


def add(routes: APIRouter, models: PictureModels) -> None:
    """Add the routes."""

    @routes.get("/config", summary="The settings that clients read from Gradio's config", response_model=None)
    async def config() -> Response:
        return JSONResponse({"mode": "blocks", "components": _components(), "dependencies": []})

    @routes.get("/queue/status", summary="The queue in Gradio's format", response_model=None)
    async def queue_status() -> Response:
        waiting = sum(model.endpoint.admission.waiting for model in models.listed)
        return JSONResponse({"msg": "estimation", "rank": None, "queue_size": waiting, "queue_eta": None})

    @routes.get("/internal/ping", summary="A1111's ping", response_model=None)
    async def ping() -> Response:
        return JSONResponse({})


def _components() -> list[dict[str, Any]]:
    """The page's elements that clients look for, by `elem_id` or label."""
    properties = (
        {"elem_id": "txt2img_hr_upscaler", "label": "Upscaler", "choices": UPSCALERS},
        {"elem_id": "setting_control_net_max_models_num", "label": "ControlNet units", "value": 1},
        {"elem_id": "txt2img_controlnet_preprocessor", "label": "Preprocessor", "choices": list(controlnet.MODULES)},
    )
    return [{"id": number, "type": "dropdown", "props": each} for number, each in enumerate(properties, 1)]
