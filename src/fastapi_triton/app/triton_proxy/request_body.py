# SPDX-License-Identifier: Apache-2.0
"""Reads the body of a `/v2` request completely, decompresses and checks it."""

import asyncio
import functools
import zlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson
from starlette.types import Receive

from fastapi_triton.app.triton_proxy import inference_request
from fastapi_triton.app.triton_proxy.inference_request import InferenceRequest
from fastapi_triton.app.triton_proxy.json_outline import is_plain, outline, parsed, without_long_strings
from fastapi_triton.app.triton_proxy.request_head import json_length
from fastapi_triton.core.body_buffers import BodyBuffers
from fastapi_triton.core.errors import (
    ClientDisconnectedError,
    TooLargeError,
    UnreadableRequestError,
    UnsupportedMediaError,
    shown,
)
from fastapi_triton.triton.transport.connection import Headers

# The depth of the arrays that hold values: `{"inputs": [{"data": [` and `{"text": [`.
_INFERENCE_DEPTH = 4
_PLAIN_DEPTH = 2
_SMALL_PIECE_BYTES = 16 * 1024
_MAX_CACHED_BYTES = 2048
# zlib's code for "gzip or zlib's own format"; HTTP calls the latter deflate.
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_CODINGS = (b"gzip", b"x-gzip", b"deflate")


async def read(receive: Receive, headers: Headers) -> list[bytes]:
    """The whole body, in the pieces in which it was received: joining megabytes takes as long as sending them.

    Raises:
        ClientDisconnectedError: the client disconnected before the end of the body.
        UnreadableRequestError: the body is shorter or longer than its Content-Length.
    """
    pieces: list[bytes] = []
    small = bytearray()  # small pieces are joined: a client may send millions
    more_body = True
    while more_body:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnectedError("The client disconnected before it had sent the whole request.")
        piece, more_body = message.get("body", b""), message.get("more_body", False)
        if len(piece) < _SMALL_PIECE_BYTES and (more_body or small):
            small += piece
            continue
        if small:
            pieces.append(bytes(small))
            small = bytearray()
        if piece:
            pieces.append(piece)
    if small:
        pieces.append(bytes(small))
    for name, value in headers:
        if name == b"content-length" and int(value) != length_of(pieces):
            raise UnreadableRequestError(
                f"The body has {length_of(pieces):,} bytes, but its Content-Length is {shown(value.decode('latin-1'))}."
            )
    return pieces


def length_of(pieces: Sequence[bytes]) -> int:
    return sum(map(len, pieces))


def joined(pieces: Sequence[bytes], num_bytes: int | None = None) -> bytes:
    """The body, or its first `num_bytes`."""
    if num_bytes is not None and pieces and len(pieces[0]) >= num_bytes:
        return pieces[0][:num_bytes]
    whole = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    return whole[:num_bytes]


def coding(headers: Headers) -> bytes:
    """The body's Content-Encoding; empty: the body is not compressed."""
    for name, value in headers:
        if name == b"content-encoding" and value.strip().lower() != b"identity":
            return value.strip().lower()
    return b""


@asynccontextmanager
async def decompressed(body: bytes, coding: bytes, *, max_bytes: int, buffers: BodyBuffers) -> AsyncIterator[bytes]:
    """The decompressed body of at most `max_bytes`. (Triton itself would decompress it without a limit.)

    Raises:
        UnreadableRequestError: the body does not have the format that `coding` names.
        UnsupportedMediaError: `coding` is not supported.
        TooLargeError: the decompressed body is larger than `max_bytes`.
        OverloadedError: the process holds too many bytes of bodies.
    """
    held = max_bytes
    buffers.take(held)
    try:
        whole = await asyncio.to_thread(_decompressed, body, coding, max_bytes)
        buffers.release(held - len(whole))
        held = len(whole)
        yield whole
    finally:
        buffers.release(held)


def _decompressed(body: bytes, coding: bytes, max_bytes: int) -> bytes:
    if coding not in _CODINGS:
        raise UnsupportedMediaError(
            f"The body has Content-Encoding: {shown(coding.decode('latin-1'))}. Send it uncompressed, or as gzip or "
            "deflate.",
            code="compressed_body",
        )
    decompressor = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        whole = decompressor.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise UnreadableRequestError(f"The body is not {coding.decode()} data: {error}.") from None
    if len(whole) > max_bytes:
        raise TooLargeError(
            f"The body decompresses to more than the limit of {max_bytes:,} bytes. Send smaller tensors.",
            code="body_too_large",
        )
    if not decompressor.eof or decompressor.unused_data:
        raise UnreadableRequestError(f"The body is not one complete {coding.decode()} stream.")
    return whole


async def check_inference(
    body: Sequence[bytes], headers: Headers, *, is_shared_memory_allowed: bool
) -> InferenceRequest | None:
    """Check an `/infer` body. None: the body is the bytes of a single tensor, without JSON.

    Raises:
        UnreadableRequestError: Triton could not read the body, or the body would harm Triton.
        TooLargeError: the JSON is too large even without long strings and arrays.
    """
    length = json_length(headers)
    if length == 0:
        return None
    num_bytes = length_of(body)
    if length is not None and length > num_bytes:
        raise UnreadableRequestError(
            f"Inference-Header-Content-Length is {length:,}, but the body has only {num_bytes:,} bytes.",
            code="invalid_header",
        )
    text = joined(body, length)
    num_json_bytes = len(text)
    text = without_long_strings(text)
    if len(text) <= _MAX_CACHED_BYTES and is_plain(text):
        return _read(text, num_json_bytes, num_bytes - num_json_bytes, is_shared_memory_allowed)
    return inference_request.read(
        await outline(text, cut_depth=_INFERENCE_DEPTH),
        num_json_bytes=num_json_bytes,
        num_binary_bytes=num_bytes - num_json_bytes,
        is_shared_memory_allowed=is_shared_memory_allowed,
    )


# Clients mostly send the same JSON again, followed by other tensors.
@functools.lru_cache(maxsize=256)
def _read(text: bytes, num_json_bytes: int, num_binary_bytes: int, is_shared_memory_allowed: bool) -> InferenceRequest:
    return inference_request.read(
        parsed(text),
        num_json_bytes=num_json_bytes,
        num_binary_bytes=num_binary_bytes,
        is_shared_memory_allowed=is_shared_memory_allowed,
    )


async def check_plain(body: bytes, *, is_empty_allowed: bool) -> None:
    """Check a body that is one JSON object: of `/generate`, or of a status request.

    Raises:
        UnreadableRequestError, TooLargeError: as in `check_inference`.
    """
    if is_empty_allowed and not body:
        return
    content: Any = await outline(body, cut_depth=_PLAIN_DEPTH)
    if not isinstance(content, dict):
        raise inference_request.invalid("The body must be a JSON object.")
    if not isinstance(content.get("id", ""), str):
        raise inference_request.invalid("`id` must be a string.")


async def check_load(body: bytes) -> None:
    """Check a body that loads a model. It may hold a model config, as JSON within JSON.

    Raises:
        UnreadableRequestError, TooLargeError: as in `check_inference`.
    """
    await check_plain(body, is_empty_allowed=True)
    try:
        content = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError as error:  # NaN, or half a surrogate pair
        raise UnreadableRequestError(f"The body is not valid JSON: {shown(str(error))}.") from None
    parameters = content.get("parameters")
    config = parameters.get("config") if isinstance(parameters, dict) else None
    if isinstance(config, str):
        await outline(config.encode(), cut_depth=_PLAIN_DEPTH)
