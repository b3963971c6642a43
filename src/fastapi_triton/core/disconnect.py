# SPDX-License-Identifier: Apache-2.0
"""Cancels work when the client disconnects."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

from fastapi_triton.core.errors import ClientDisconnectedError
from fastapi_triton.core.request_record import current_record

logger = logging.getLogger(__name__)

T = TypeVar("T")


async def cancel_on_disconnect(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Await the work, and cancel it if the client disconnects. The request's body must have been read before.

    Raises:
        ClientDisconnectedError: the client disconnected first, and the work was cancelled.
    """
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(disconnected(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        logger.info("the client disconnected; its request is cancelled")
        record = current_record.get()
        record.is_cancelled, record.code = True, ClientDisconnectedError.default_code
        raise ClientDisconnectedError("The client disconnected before the response.")
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def disconnected(receive: Receive) -> None:
    """Return when the client has disconnected. The request's body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass
