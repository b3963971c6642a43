# SPDX-License-Identifier: Apache-2.0
"""A process on its way out: first unready, then it takes no new work, in the end it stops what still runs."""

import asyncio
from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from fastapi_triton.core.errors import ShuttingDownError

# Where an app's `Drain` is in the state that its lifespan shares with the server and with every request's scope.
STATE = "drain"
# Another process, or the next one, is there by then.
RETRY_AFTER_S = 1.0


class Phase(IntEnum):
    """How far it is."""

    SERVING = 0
    UNREADY = 1  # still serves, says that it will not for long, and keeps no connection open
    CLOSED = 2  # finishes what it has begun
    OVER = 3  # what still runs is stopped, and told so


class Drain:
    """Where the server says how far the end has come, and the app looks it up."""

    def __init__(self) -> None:
        self.phase = Phase.SERVING

    def reach(self, phase: Phase) -> None:
        """Go on to a phase; there is no way back."""
        self.phase = max(self.phase, phase)

    def require_open(self) -> None:
        """Let new work in.

        Raises:
            ShuttingDownError: no more is taken.
        """
        if self.phase >= Phase.CLOSED:
            raise ShuttingDownError(
                "This server is shutting down and takes no new work. Nothing was run; try again.",
                retry_after_s=RETRY_AFTER_S,
            )

    def explain(self, cancelled: asyncio.CancelledError) -> Exception | asyncio.CancelledError:
        """Why the running task was cancelled: what its caller is to be told, if it was for the server's end."""
        if self.phase < Phase.OVER:
            return cancelled
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()
        return ShuttingDownError(
            "This server is shutting down, and the work was not done in time. It was stopped; try again.",
            retry_after_s=RETRY_AFTER_S,
        )


_NEVER = Drain()


def of(scope: Mapping[str, Any]) -> Drain:
    """The drain of the server that this request came to; one that never begins where the server has none."""
    found = scope.get("state", {}).get(STATE)
    return found if isinstance(found, Drain) else _NEVER
