# SPDX-License-Identifier: Apache-2.0
"""Signed URLs of stored pictures, for `response_format: url`. They expire, and need no API key."""

import asyncio
import hashlib
import hmac
import logging
import os
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import BinaryIO

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from fastapi_triton.core import paths
from fastapi_triton.core.background import BackgroundTask
from fastapi_triton.core.context import current_caller
from fastapi_triton.core.errors import (
    GoneError,
    InvalidRequestError,
    NotAllowedError,
    NotFoundError,
    OverloadedError,
    invalid_field,
    shown,
)
from fastapi_triton.endpoints import images
from fastapi_triton.pictures.openai import picture_store
from fastapi_triton.pictures.openai.picture_store import PictureStore
from fastapi_triton.pictures.text_to_image import Picture

logger = logging.getLogger(__name__)

_SWEEP_S = 60.0
_PIECE_BYTES = 64 * 1024
_MAGIC_BYTES = 16  # from which the media type is known
_HEADERS = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; sandbox"}
# The paths below OpenAI's prefix.
_FILES = paths.PICTURE_FILES.removeprefix(paths.OPENAI)


class PictureURLs:
    """Stores pictures and makes their URLs."""

    def __init__(self, store: PictureStore) -> None:
        self._store = store

    @property
    def are_on(self) -> bool:
        return self._store.max_bytes > 0

    async def require(self) -> None:
        """Check that pictures can be stored, before any is made.

        Raises:
            InvalidRequestError: URLs are off.
            OverloadedError: the folder cannot be used.
        """
        if not self.are_on:
            raise _off()
        try:
            await asyncio.to_thread(self._store.prepare)
        except OSError as error:
            raise _unavailable(error) from None

    async def add(self, pictures: Sequence[Picture], base_url: str) -> list[str] | None:
        """Store the pictures of one request. Returns their URLs; `base_url` is the app's own, as the client sees it.

        None: they cannot be stored. An error would lose pictures that the model has made.
        """
        caller = current_caller.get().name
        try:
            names, secret = await asyncio.to_thread(self._add, pictures, caller)
        except OSError as error:
            _log(error)
            return None
        root = base_url.rstrip("/") + paths.PICTURE_FILES
        return [f"{root}{name}?signature={_signature(secret, name)}" for name in names]

    def _add(self, pictures: Sequence[Picture], caller: str) -> tuple[list[str], bytes]:
        files = [(images.decode(each.base64), each.output_format) for each in pictures]
        return self._store.add(files, caller=caller), self._store.prepare()

    async def response(self, name: str, signature: str) -> Response:
        """The response to a request for a stored picture. Without a valid signature, nothing is looked up.

        Raises:
            NotFoundError: it is not the name of a picture.
            NotAllowedError: the signature is wrong.
            GoneError: the picture has expired, or was removed to make room.
        """
        expires = picture_store.expiry(name)
        if expires is None or not self.are_on:
            raise NotFoundError(f"This server has made no picture `{shown(name)}`.", code="picture_not_found")
        try:
            secret = await asyncio.to_thread(self._store.prepare)
            if not hmac.compare_digest(_signature(secret, name).encode(), signature.encode()):
                raise NotAllowedError(
                    "The URL's signature is wrong: the URL was changed or cut off, or another server made it.",
                    code="invalid_signature",
                )
            left_s = int(expires - time.time())
            file = await asyncio.to_thread(self._store.open, name) if left_s > 0 else None
        except OSError as error:
            raise _unavailable(error) from None
        if file is None:
            detail = (
                "The picture was removed to make room for newer ones."
                if left_s > 0
                else f"The URL has expired: it was valid for {picture_store.KEEP_S // 60} minutes."
            )
            raise GoneError(f"{detail} Make the picture again.", code="picture_expired")
        headers = {
            **_HEADERS,
            "Cache-Control": f"private, max-age={left_s}, immutable",
            "Content-Disposition": f'inline; filename="{name.rpartition("-")[2]}"',
        }
        return PictureFileResponse(file, headers)

    @asynccontextmanager
    async def kept(self) -> AsyncGenerator[None, None]:
        """Remove expired pictures in the background during the `async with` block."""

        async def sweep() -> float:
            await asyncio.to_thread(self._store.sweep)
            return _SWEEP_S

        task = BackgroundTask("stored pictures", consequence="Expired pictures stay on the disk.")
        async with task.repeating(sweep):
            yield


class PictureFileResponse(Response):
    """Sends an open file in pieces, and closes it: slow clients must not hold whole pictures in memory."""

    def __init__(self, file: BinaryIO, headers: Mapping[str, str]) -> None:
        self._file = file
        length = os.fstat(file.fileno()).st_size
        super().__init__(
            headers={**headers, "Content-Length": str(length)}, media_type=images.media_type(file.read(16))
        )
        file.seek(0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        with self._file:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            while piece := await asyncio.to_thread(self._file.read, _PIECE_BYTES):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def router(urls: PictureURLs) -> APIRouter:
    """The route of stored pictures."""
    routes = APIRouter(prefix=paths.OPENAI, tags=["OpenAI Images API"])

    @routes.get(
        f"{_FILES}{{name}}", summary="Get a picture by its signed URL", response_model=None, name="openai_picture_file"
    )
    async def file(request: Request, name: str) -> Response:
        return await urls.response(name, request.query_params.get("signature", ""))

    return routes


def _signature(secret: bytes, name: str) -> str:
    """The signature of a name, which has the time at which the picture expires."""
    return hmac.new(secret, name.encode(), hashlib.sha256).hexdigest()


def _off() -> InvalidRequestError:
    detail = "`response_format` is url; this server stores no pictures. Use b64_json."
    return invalid_field("response_format", "unsupported_parameter", detail)


def _log(error: OSError) -> None:
    logger.error("pictures cannot be stored: %s", error)


def _unavailable(error: OSError) -> OverloadedError:
    _log(error)
    return OverloadedError(
        "This server cannot store pictures now. Set `response_format` to b64_json, or try again later.",
        code="pictures_unavailable",
    )
