# SPDX-License-Identifier: Apache-2.0
"""Adds the OpenAI and A1111 image APIs to the app, in front of declared endpoints."""

from contextlib import AbstractAsyncContextManager, nullcontext

from fastapi import FastAPI
from pydantic import BaseModel

from fastapi_triton.core import paths, problem_details
from fastapi_triton.core.body_buffers import BodyBuffers
from fastapi_triton.core.settings import Settings
from fastapi_triton.endpoints.declared.endpoint import InferEndpoint
from fastapi_triton.endpoints.declared.similar_models import SimilarModels
from fastapi_triton.pictures.a1111 import errors as a1111_errors
from fastapi_triton.pictures.a1111 import routes as a1111
from fastapi_triton.pictures.a1111.controlnet_routes import DetectRequest
from fastapi_triton.pictures.a1111.discovery import PNGInfoRequest
from fastapi_triton.pictures.a1111.img2img import Img2ImgRequest
from fastapi_triton.pictures.a1111.progress import InternalProgressRequest
from fastapi_triton.pictures.a1111.schemas import Txt2ImgRequest
from fastapi_triton.pictures.openai import errors as openai_errors
from fastapi_triton.pictures.openai import picture_urls, schemas
from fastapi_triton.pictures.openai import routes as openai_images
from fastapi_triton.pictures.openai.image_urls import ImageURLs
from fastapi_triton.pictures.openai.picture_store import PictureStore
from fastapi_triton.pictures.openai.picture_urls import PictureURLs
from fastapi_triton.pictures.picture_models import PictureModels
from fastapi_triton.pictures.text_to_image import TextToImage


class PictureAPIs:
    """The enabled APIs of an app. They have no routes until an endpoint fits them.

    Args:
        buffers: count the pictures that requests name by URL.
        offers_similar: models in Triton that fit a declared endpoint are offered, too.
    """

    def __init__(self, app: FastAPI, settings: Settings, buffers: BodyBuffers, *, offers_similar: bool) -> None:
        self.bodies: list[type[BaseModel]] = []  # of their requests, for the OpenAPI document
        self._app = app
        self._settings = settings
        self._offers_similar = offers_similar
        self._models: PictureModels | None = None
        self._image_urls = ImageURLs(
            are_on=settings.fetch_image_urls, max_bytes=settings.max_body_bytes, buffers=buffers
        )
        self.store = PictureStore.of(settings)
        self._urls = PictureURLs(self.store)

    def running(self) -> AbstractAsyncContextManager[None]:
        """Remove expired pictures during the `async with` block."""
        return self._urls.kept() if self._settings.openai_api and self._models else nullcontext()

    def add(self, endpoint: InferEndpoint) -> None:
        """Offer the model of a declared endpoint, if it fits. The first one is the default."""
        if self._models is not None:
            self._models.add(endpoint)
        elif TextToImage.fits(endpoint):
            self._models = PictureModels(endpoint, SimilarModels(endpoint) if self._offers_similar else None)
            self._add_routes(self._models)

    def _add_routes(self, models: PictureModels) -> None:
        if self._settings.openai_api:
            problem_details.set_error_format(self._app, paths.OPENAI, openai_errors.response)
            bodies = schemas.request_models(models.default)
            self._app.include_router(openai_images.router(models, bodies, self._urls, self._image_urls))
            self._app.include_router(picture_urls.router(self._urls))
            self.bodies += bodies
        if self._settings.a1111_api:
            for prefix in (paths.A1111, paths.A1111_CONTROLNET, paths.A1111_INTERNAL_PROGRESS):
                problem_details.set_error_format(self._app, prefix, a1111_errors.response)
            self._app.include_router(a1111.router(models))
            self.bodies += [Txt2ImgRequest, Img2ImgRequest, PNGInfoRequest, DetectRequest, InternalProgressRequest]
