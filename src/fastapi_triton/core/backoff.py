# SPDX-License-Identifier: Apache-2.0
"""Exponential backoff with jitter: pauses double, and a random part keeps clients from retrying in step."""

import asyncio
import math
import random
from collections.abc import Iterator

from fastapi_triton.core.context import remaining_s


class Backoff:
    """Pauses between attempts: from `first_s`, doubled up to `longest_s`, minus a random part of up to half."""

    def __init__(self, first_s: float, longest_s: float = math.inf) -> None:
        self._first_s = self._pause_s = min(first_s, longest_s)
        self._longest_s = longest_s

    def reset(self) -> None:
        """Go back to the shortest pause."""
        self._pause_s = self._first_s

    def next_s(self) -> float:
        """The pause before the next attempt, in seconds."""
        pause_s = self._pause_s * random.uniform(0.5, 1)  # noqa: S311
        self._pause_s = min(2 * self._pause_s, self._longest_s)
        return pause_s

    async def sleep(self) -> None:
        """Pause before the next attempt."""
        await asyncio.sleep(self.next_s())


def pauses(backoff: Backoff, *, max_attempts: int) -> Iterator[float]:
    """The pause before each attempt of one request, in seconds. Attempts after the request's deadline are left out.

    The first attempt has no pause.
    """
    yield 0.0
    for _ in range(max_attempts - 1):
        pause_s = backoff.next_s()
        if remaining_s(pause_s) < pause_s:
            return
        yield pause_s
