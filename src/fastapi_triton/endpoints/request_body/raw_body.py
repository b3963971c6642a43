# SPDX-License-Identifier: Apache-2.0
"""Reads a request's body as bytes, and runs the work on long bodies in threads."""

import asyncio
import io
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from starlette.types import Receive

from fastapi_triton.core.errors import ClientDisconnectedError

# Longer bodies are read in a thread. A body of this size takes about ten milliseconds.
LONG_BYTES = 4 * 1024 * 1024

P = ParamSpec("P")
T = TypeVar("T")


async def read(receive: Receive) -> bytes:
    """The whole body. `Request.body` takes three times as long and, for a large body, twice the memory.

    Raises:
        ClientDisconnectedError: the client disconnected before the end of the body.
    """
    first, more_body = await _piece(receive)
    if not more_body:
        return first
    # Each piece is freed when it is written, and the result is not a copy.
    body = io.BytesIO()
    body.write(first)
    del first
    while more_body:
        piece, more_body = await _piece(receive)
        body.write(piece)
        del piece
    return body.getvalue()


async def _piece(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnectedError("The client disconnected before it had sent the whole request.")
    return message.get("body", b""), message.get("more_body", False)


async def process(is_long: bool, work: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """Do the work here, or in a thread if it is long, so that the event loop serves other requests meanwhile."""
    if not is_long:
        return work(*arguments, **options)
    return await asyncio.to_thread(work, *arguments, **options)
