# SPDX-License-Identifier: Apache-2.0
"""What goes on beside requests for as long as the app runs: watching, polling, keeping numbers fresh."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

logger = logging.getLogger(__name__)


@asynccontextmanager
async def going_on(work: Coroutine[Any, Any, None], *, name: str, trouble: str) -> AsyncGenerator[None, None]:
    """Have it run beside this, and stop it at the end. `trouble` is logged should it fail: nobody waits for it."""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(partial(_tell_end, trouble))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def _tell_end(trouble: str, task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        logger.critical(trouble, exc_info=task.exception())
