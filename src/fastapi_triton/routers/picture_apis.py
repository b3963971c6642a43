# SPDX-License-Identifier: Apache-2.0
"""What programs written for other picture APIs speak, in front of a declared endpoint."""

from fastapi import FastAPI
from pydantic import BaseModel

from fastapi_triton import problems
from fastapi_triton.endpoints import InferEndpoint
from fastapi_triton.routers import a1111, a1111_errors, openai_errors, openai_images, openai_request
from fastapi_triton.routers.a1111_request import Txt2ImgRequest
from fastapi_triton.settings import Settings
from fastapi_triton.text_to_image import TextToImage


def mount(app: FastAPI, endpoint: InferEndpoint, settings: Settings) -> list[type[BaseModel]]:
    """Add the routes that are not switched off. Gives the bodies they take, for the OpenAPI document."""
    model = TextToImage(endpoint)
    bodies: list[type[BaseModel]] = []
    if settings.openai_api:
        problems.speak(app, openai_images.PREFIX, openai_errors.response)
        app.include_router(openai_images.router(model))
        bodies += openai_request.request_models(model)
    if settings.a1111_api:
        problems.speak(app, a1111.PREFIX, a1111_errors.response)
        app.include_router(a1111.router(model))
        bodies.append(Txt2ImgRequest)
    return bodies
