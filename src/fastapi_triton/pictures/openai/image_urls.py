# SPDX-License-Identifier: Apache-2.0
"""Pictures that a JSON body refers to: a data URL, or an https URL that the server fetches if the settings allow it."""

import asyncio
from collections.abc import Iterator
from typing import Annotated, Any

import aiohttp
import pybase64
from pydantic import BaseModel, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError

from fastapi_triton.core import public_urls
from fastapi_triton.core.body_buffers import BodyBuffers, BodyShare
from fastapi_triton.core.context import current_caller, remaining_s
from fastapi_triton.core.errors import DeadlineExceededError, InvalidRequestError, TooLargeError, invalid_field
from fastapi_triton.endpoints import images
from fastapi_triton.endpoints.images import Base64Image, ImageLimits, PictureMembers
from fastapi_triton.endpoints.request_body import raw_body
from fastapi_triton.pictures.openai.fetch_slots import FetchSlots

_SCHEMES = ("https://", "http://")
# The members of an object in place of a picture, which may be nested: `{"image_url": {"url": …}}`.
_MEMBERS = ("image_url", "url", "b64_json")
_MAX_NESTED = 2
_TIMEOUT_S = 15.0
_PIECE_BYTES = 64 * 1024
_HEADERS = {"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "fastapi-triton"}
_FAILED = "image_url_failed"
# Of one process, for all requests; and for those of one caller.
_MAX_AT_ONCE = 8
_MAX_PER_CALLER = 2


def _picture(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    for _ in range(_MAX_NESTED):
        if isinstance(value, dict):
            value = _unwrapped(value)
    # A URL is fetched later, and the picture checked then.
    return value if is_url(value) else check(value)


def _unwrapped(reference: dict[str, Any]) -> Any:
    if "file_id" in reference:
        raise PydanticCustomError("unsupported_parameter", "is a file_id; this server has no files. Send the bytes.")
    found = [reference[name] for name in _MEMBERS if reference.get(name) is not None]
    if len(found) != 1:
        raise PydanticCustomError("invalid_value", "must have one of image_url, url and b64_json.")
    return found[0]


PictureReference = Annotated[Base64Image, PictureMembers(_MEMBERS), WrapValidator(_picture)]
"""A `Base64Image`, or in JSON a URL, or an object that holds one of them. URLs are not fetched by the validation."""


def is_url(value: Any) -> bool:
    return isinstance(value, str) and value[:8].lower().startswith(_SCHEMES)


def are_in(request: BaseModel) -> bool:
    """Whether a request has URLs in place of pictures."""
    return any(True for _ in _urls(request))


def _urls(request: BaseModel) -> Iterator[tuple[str, str]]:
    """The fields and URLs in place of a request's pictures."""
    for name, field in type(request).model_fields.items():
        if images.holds_picture(field):
            value = getattr(request, name)
            for text in value if isinstance(value, list) else [value]:
                if is_url(text):
                    yield name, text


class ImageURLs:
    """Fetches the pictures that requests name by their URLs.

    Args:
        are_on: whether URLs may be fetched at all.
        max_bytes: the limit for the files of one request.
        buffers: counts the files of all requests, as it counts their bodies.
        anywhere: allow http and private addresses, for tests.
    """

    def __init__(self, *, are_on: bool, max_bytes: int, buffers: BodyBuffers, anywhere: bool = False) -> None:
        self._are_on = are_on
        self._max_bytes = max_bytes
        self._buffers = buffers
        self._anywhere = anywhere
        self._slots = FetchSlots(total=_MAX_AT_ONCE, per_caller=_MAX_PER_CALLER)

    def share(self) -> BodyShare:
        """Counts the files of one request. Release it when the request has ended."""
        return BodyShare(self._buffers)

    async def fetch(self, request: BaseModel, limits: ImageLimits, share: BodyShare) -> dict[str, str]:
        """The pictures of the URLs in a request, as base64 text by URL. Together they may have `max_bytes`, as a body
        may.

        Raises:
            DeadlineExceededError: the request's deadline passed.
            InvalidRequestError: a URL is not allowed, cannot be fetched, or is not that of a picture.
            OverloadedError: all requests together hold too many bytes, or too many pictures are being fetched.
            TooLargeError: the pictures exceed a limit.
            TooManyRequestsError: the caller's other requests are fetching too many pictures.
        """
        named: dict[str, str] = {}
        for field, url in _urls(request):
            named.setdefault(url, field)
            self._check(field, url)  # all of them, before the first is fetched
        left = self._max_bytes
        found: dict[str, str] = {}
        for url, field in named.items():
            data = await self._picture(field, url, left, share)
            left -= len(data)
            is_long = len(data) > raw_body.LONG_BYTES
            found[url] = await raw_body.process(is_long, _checked_text, field, data, limits)
        return found

    def _check(self, field: str, url: str) -> None:
        if not self._are_on:
            raise _error(field, "image_urls_off", "is a URL, which this server does not fetch; send the bytes")
        try:
            public_urls.check(url, anywhere=self._anywhere)
        except ValueError as error:
            raise _error(field, "invalid_image_url", str(error)) from None

    async def _picture(self, field: str, url: str, max_bytes: int, share: BodyShare) -> bytes:
        until = asyncio.get_running_loop().time() + remaining_s(_TIMEOUT_S)
        async with self._slots.slot(current_caller.get().name, until=until) as on_lookup:
            left_s = remaining_s(_TIMEOUT_S)  # again: the URL's server does not answer for the wait
            try:
                # (aiohttp takes a timeout of 0 or less for none.)
                async with asyncio.timeout(left_s):
                    return await self._fetched(field, url, max_bytes, share, on_lookup)
            except TimeoutError:
                if left_s < _TIMEOUT_S:
                    detail = "The request's deadline passed while its pictures were fetched. Nothing was run."
                    raise DeadlineExceededError(detail) from None
                raise _error(field, _FAILED, "cannot be fetched: its server is too slow") from None

    async def _fetched(
        self, field: str, url: str, max_bytes: int, share: BodyShare, on_lookup: public_urls.OnLookup
    ) -> bytes:
        try:
            async with (
                public_urls.session(_TIMEOUT_S, anywhere=self._anywhere, on_lookup=on_lookup) as session,
                session.get(url, headers=_HEADERS, allow_redirects=False) as response,
            ):
                if response.status != 200:
                    raise _error(field, _FAILED, f"cannot be fetched: its server returned {response.status}")
                return await _body(field, response, max_bytes, share)
        except TimeoutError:
            raise
        except (aiohttp.ClientError, OSError):
            # One reason for all, without the error's text: clients must not learn about the server's own network.
            reason = "cannot be fetched: its server does not respond, or has no public address"
            raise _error(field, _FAILED, reason) from None


def _checked_text(field: str, data: bytes, limits: ImageLimits) -> str:
    """A fetched picture as base64 text."""
    try:
        images.check(data, limits, field=field)
    except PydanticCustomError as error:
        raise _error(field, error.type, f"names a file that {error.message().rstrip('.')}") from None
    return pybase64.b64encode_as_string(data)


async def _body(field: str, response: aiohttp.ClientResponse, max_bytes: int, share: BodyShare) -> bytes:
    data = bytearray()
    async for piece in response.content.iter_chunked(_PIECE_BYTES):
        share.take(len(piece))
        data += piece
        if len(data) > max_bytes:
            detail = f"`{field}` names a file that is too large: {max_bytes:,} bytes are left of the request's limit."
            problems = invalid_field(field, images.TOO_LARGE, detail).problems
            raise TooLargeError(detail, code=images.TOO_LARGE, problems=problems)
    return bytes(data)


def _error(field: str, code: str, reason: str) -> InvalidRequestError:
    return invalid_field(field, code, f"`{field}` {reason}.")
