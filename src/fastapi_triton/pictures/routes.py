# SPDX-License-Identifier: Apache-2.0
"""Adds the OpenAI and A1111 image APIs to the app, in front of a declared endpoint."""

from fastapi import FastAPI
from pydantic import BaseModel

from fastapi_triton.core import paths, problem_details
from fastapi_triton.core.settings import Settings
from fastapi_triton.pictures.a1111 import errors as a1111_errors
from fastapi_triton.pictures.a1111 import routes as a1111
from fastapi_triton.pictures.a1111.img2img import Img2ImgRequest
from fastapi_triton.pictures.a1111.schemas import Txt2ImgRequest
from fastapi_triton.pictures.openai import errors as openai_errors
from fastapi_triton.pictures.openai import routes as openai_images
from fastapi_triton.pictures.openai import schemas
from fastapi_triton.pictures.picture_models import PictureModels


def mount(app: FastAPI, models: PictureModels, settings: Settings) -> list[type[BaseModel]]:
    """Add the enabled APIs' routes. Returns their request models, for the OpenAPI document."""
    bodies: list[type[BaseModel]] = []
    if settings.openai_api:
        problem_details.set_error_format(app, paths.OPENAI, openai_errors.response)
        app.include_router(openai_images.router(models))
        bodies += schemas.request_models(models.default)
    if settings.a1111_api:
        problem_details.set_error_format(app, paths.A1111, a1111_errors.response)
        app.include_router(a1111.router(models))
        bodies += [Txt2ImgRequest, Img2ImgRequest]
    return bodies
