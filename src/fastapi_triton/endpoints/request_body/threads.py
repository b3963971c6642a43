# SPDX-License-Identifier: Apache-2.0
"""Long bodies are read in threads, so that the event loop serves other requests meanwhile."""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def run(is_long: bool, work: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """Do the work here, or in a thread if it is long."""
    if not is_long:
        return work(*arguments, **options)
    return await asyncio.to_thread(work, *arguments, **options)
