# SPDX-License-Identifier: Apache-2.0
"""The body of a `/v2` request: read whole, unpacked if it is compressed, and checked."""

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

# The depth of the arrays of values: `{"inputs": [{"data": [` and `{"text": [`.
_INFERENCE_DEPTH = 4
_PLAIN_DEPTH = 2
_SMALL_PIECE_BYTES = 16 * 1024
_KEPT_BYTES = 2048
# zlib's own: gzip, or zlib's format, which HTTP calls deflate.
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_CODINGS = (b"gzip", b"x-gzip", b"deflate")


async def read(receive: Receive, headers: Headers) -> list[bytes]:
    """The whole body, in the pieces that it came in: joining megabytes takes as long as sending them.

    Raises:
        ClientDisconnectedError: the client left before its end.
        UnreadableRequestError: it is shorter or longer than its Content-Length.
    """
    pieces: list[bytes] = []
    small = bytearray()  # small pieces are joined: a client may send millions
    more_body = True
    while more_body:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnectedError("The client left before its request was whole.")
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
                f"The body has {length_of(pieces):,} bytes, but Content-Length says {shown(value.decode('latin-1'))}."
            )
    return pieces


def length_of(pieces: Sequence[bytes]) -> int:
    return sum(map(len, pieces))


def joined(pieces: Sequence[bytes], num_bytes: int | None = None) -> bytes:
    """The body, or the first bytes of it."""
    if num_bytes is not None and pieces and len(pieces[0]) >= num_bytes:
        return pieces[0][:num_bytes]
    whole = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    return whole[:num_bytes]


def coding(headers: Headers) -> bytes:
    """How the body is compressed; empty: it is not."""
    for name, value in headers:
        if name == b"content-encoding" and value.strip().lower() != b"identity":
            return value.strip().lower()
    return b""


@asynccontextmanager
async def unpacked(body: bytes, by: bytes, *, max_bytes: int, buffers: BodyBuffers) -> AsyncIterator[bytes]:
    """The body unpacked, at most `max_bytes` of it. (Triton itself would unpack it without a limit.)

    Raises:
        UnreadableRequestError: it is not compressed as it says.
        UnsupportedMediaError: it is compressed in a way that is not known.
        TooLargeError: it unpacks to more.
        OverloadedError: the process holds too many bytes of bodies.
    """
    held = max_bytes
    buffers.take(held)
    try:
        whole = await asyncio.to_thread(_unpacked, body, by, max_bytes)
        buffers.release(held - len(whole))
        held = len(whole)
        yield whole
    finally:
        buffers.release(held)


def _unpacked(body: bytes, by: bytes, max_bytes: int) -> bytes:
    if by not in _CODINGS:
        raise UnsupportedMediaError(
            f"The body comes with Content-Encoding: {shown(by.decode('latin-1'))}. Send it as it is, or as gzip "
            "or deflate.",
            code="compressed_body",
        )
    unpacker = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        whole = unpacker.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise UnreadableRequestError(f"The body is not {by.decode()} data: {error}.") from None
    if len(whole) > max_bytes:
        raise TooLargeError(f"The body unpacks to more than the limit of {max_bytes:,} bytes.", code="body_too_large")
    if not unpacker.eof or unpacker.unused_data:
        raise UnreadableRequestError(f"The body is not one whole {by.decode()} stream.")
    return whole


async def check_inference(
    body: Sequence[bytes], headers: Headers, *, is_shared_memory_allowed: bool
) -> InferenceRequest | None:
    """Check an `/infer` body. None: it is the bytes of a single tensor, without JSON.

    Raises:
        UnreadableRequestError: Triton could not read it, or would come to harm.
        TooLargeError: it has more JSON than a request for inference has.
    """
    length = json_length(headers)
    if length == 0:
        return None
    num_bytes = length_of(body)
    if length is not None and length > num_bytes:
        raise UnreadableRequestError(
            f"The body has {num_bytes:,} bytes, but Inference-Header-Content-Length says that {length:,} are JSON.",
            code="invalid_header",
        )
    text = joined(body, length)
    num_json_bytes = len(text)
    text = without_long_strings(text)
    if len(text) <= _KEPT_BYTES and is_plain(text):
        return _read(text, num_json_bytes, num_bytes - num_json_bytes, is_shared_memory_allowed)
    return inference_request.read(
        await outline(text, cut_depth=_INFERENCE_DEPTH),
        num_json_bytes=num_json_bytes,
        num_binary_bytes=num_bytes - num_json_bytes,
        is_shared_memory_allowed=is_shared_memory_allowed,
    )


# A client mostly sends the same JSON with other tensors behind it.
@functools.lru_cache(maxsize=256)
def _read(text: bytes, num_json_bytes: int, num_binary_bytes: int, is_shared_memory_allowed: bool) -> InferenceRequest:
    return inference_request.read(
        parsed(text),
        num_json_bytes=num_json_bytes,
        num_binary_bytes=num_binary_bytes,
        is_shared_memory_allowed=is_shared_memory_allowed,
    )


async def check_plain(body: bytes, *, is_empty_allowed: bool) -> None:
    """Check a body that is a JSON object by itself: of `/generate`, or of a question.

    Raises:
        UnreadableRequestError, TooLargeError: as `check_inference`.
    """
    if is_empty_allowed and not body:
        return
    told: Any = await outline(body, cut_depth=_PLAIN_DEPTH)
    if not isinstance(told, dict):
        raise inference_request.refused("The body must be a JSON object.")
    if not isinstance(told.get("id", ""), str):
        raise inference_request.refused("`id` must be a string.")


async def check_load(body: bytes) -> None:
    """Check a body that loads a model, whose config is JSON within JSON.

    Raises:
        UnreadableRequestError, TooLargeError: as `check_inference`.
    """
    await check_plain(body, is_empty_allowed=True)
    try:
        told = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError as error:  # NaN, or half a surrogate pair
        raise UnreadableRequestError(f"The body is not valid JSON: {shown(str(error))}.") from None
    parameters = told.get("parameters")
    config = parameters.get("config") if isinstance(parameters, dict) else None
    if isinstance(config, str):
        await outline(config.encode(), cut_depth=_PLAIN_DEPTH)
