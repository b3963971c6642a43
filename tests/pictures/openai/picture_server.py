# SPDX-License-Identifier: Apache-2.0
"""A server of pictures on loopback, and edits that name its pictures by their URLs."""

import asyncio
import functools
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from fastapi_triton import Settings
from fastapi_triton.core.body_buffers import BodyBuffers
from fastapi_triton.endpoints.images import ImageLimits
from fastapi_triton.pictures.openai.image_urls import ImageURLs
from fastapi_triton.pictures.openai.schemas import request_models
from fastapi_triton.pictures.text_to_image import TextToImage
from fastapi_triton.testing import FakeTriton
from support.paths import ROOT
from support.scribble_app import MODEL, config_of_file, picture
from support.scripted_stream_model import app_of, stream_model_config

LIMITS = ImageLimits(1_000_000)


class Pictures:
    """A server of pictures, which misbehaves on request."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[web.Request] = []
        self.is_closing = asyncio.Event()
        self._arrived = asyncio.Condition()

    async def received(self, count: int) -> None:
        """Wait until this number of requests has arrived."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.requests) >= count)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        async with self._arrived:
            self._arrived.notify_all()
        match request.path:
            case "/redirect":
                return web.Response(status=302, headers={"Location": f"{self.url}/a.png"})
            case "/missing":
                return web.Response(status=404)
            case "/page":
                return web.Response(text="<html>", content_type="image/png")
            case "/compressed":
                response = web.Response(body=picture())
                response.enable_compression(web.ContentCoding.gzip)
                return response
            case "/endless":
                endless = web.StreamResponse()
                await endless.prepare(request)
                while not self.is_closing.is_set():
                    await endless.write(bytes(20_000))
            case "/silent":
                await self.is_closing.wait()
        return web.Response(body=picture(), content_type="application/octet-stream")


@functools.cache
def edit_request() -> type[BaseModel]:
    config = config_of_file(ROOT / "models" / MODEL / "config.pbtxt")
    triton = FakeTriton()
    triton.add(stream_model_config(config))
    (endpoint,) = app_of(triton, Settings()).endpoints
    return request_models(TextToImage(endpoint))[1]


def image_urls_of(max_bytes: int = 10_000, *, anywhere: bool = False, num_buffered: int = 10**9) -> ImageURLs:
    return ImageURLs(are_on=True, max_bytes=max_bytes, buffers=BodyBuffers(num_buffered), anywhere=anywhere)


async def fetched(urls: ImageURLs, image: Any) -> list[str]:
    """The pictures of an edit, after those with URLs were fetched."""
    request = edit_request().model_validate({"prompt": "a", "image": image}, context=LIMITS)
    found = await urls.fetch(request, LIMITS, urls.share())
    return [found.get(each, each) for each in request.image]  # type: ignore[attr-defined]
