# SPDX-License-Identifier: Apache-2.0
"""The routes of A1111's ControlNet extension, below `/controlnet`."""

from typing import Any

from fastapi import APIRouter
from pydantic import AliasChoices, BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from fastapi_triton.core import paths
from fastapi_triton.endpoints import openapi
from fastapi_triton.endpoints.images import Base64Image
from fastapi_triton.endpoints.request_body import validation
from fastapi_triton.pictures import unserved_fields
from fastapi_triton.pictures.a1111 import controlnet, unserved
from fastapi_triton.pictures.a1111.controlnet import unsupported
from fastapi_triton.pictures.a1111.saved_values import is_nothing, plain
from fastapi_triton.pictures.text_to_image import MAX_PICTURES, TextToImage

_VERSION = 3
_NUM_UNITS = 1


class DetectRequest(BaseModel):
    """The body of `detect`."""

    model_config = ConfigDict(extra="allow")

    controlnet_module: str | None = Field("none", description="Only none, which changes nothing")
    controlnet_input_images: list[Base64Image] = Field(
        min_length=1,
        max_length=MAX_PICTURES,
        validation_alias=AliasChoices("controlnet_input_images", "controlnet_images"),
    )


def add(routes: APIRouter, model: TextToImage) -> None:
    """Add the routes."""
    models = controlnet.control_models(model)
    modules = list(controlnet.MODULES)
    scribble = {"module_list": modules, "model_list": models, "default_option": "none", "default_model": models[0]}
    contents: dict[str, Any] = {
        "version": {"version": _VERSION},
        "model_list": {"model_list": models},
        "module_list": {
            "module_list": modules,
            "module_detail": {name: {"model_free": False, "sliders": []} for name in modules},
        },
        "control_types": {"control_types": {"All": scribble, "Scribble": scribble}},
        # By the newer and the older name.
        "settings": {"control_net_unit_count": _NUM_UNITS, "control_net_max_models_num": _NUM_UNITS},
    }

    def add_list(name: str, content: Any) -> None:
        async def route() -> Response:
            return JSONResponse(content)

        summary = f"The ControlNet extension's {name}"
        routes.add_api_route(
            f"{paths.A1111_CONTROLNET}/{name}", route, methods=["GET"], summary=summary, response_model=None
        )

    for name, content in contents.items():
        add_list(name, content)

    @routes.post(
        f"{paths.A1111_CONTROLNET}/detect",
        summary="The ControlNet extension's detect. Only the module none, which changes nothing, is supported",
        response_model=None,
        openapi_extra=openapi.request_body(validation.JSON, model=DetectRequest),
    )
    async def detect(request: Request) -> Response:
        limits = model.endpoint.services.image_limits
        body = await validation.read(request.scope, request.receive, DetectRequest, limits=limits)
        if not isinstance(body, DetectRequest):
            raise TypeError("validated into another model")
        if not is_nothing(body.controlnet_module):
            detail = "This server has no preprocessors. Use none here; a unit of a request may also have `invert`."
            raise unsupported("controlnet_module", detail)
        extra = {name: plain(value) for name, value in (body.model_extra or {}).items()}
        notes = unserved_fields.notes(extra, unserved.DETECT, DetectRequest.model_fields)
        response = {"images": body.controlnet_input_images, "info": "Success"}
        return JSONResponse(response | ({"notes": notes} if notes else {}))
