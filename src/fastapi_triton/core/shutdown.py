# SPDX-License-Identifier: Apache-2.0
"""The shutdown in phases: first unready, then no new requests, in the end running ones are cancelled."""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from enum import IntEnum
from typing import Any

from fastapi_triton.core.errors import ShuttingDownError
from fastapi_triton.core.settings import Settings

logger = logging.getLogger(__name__)

# Where an app's `Drain` is in the state that its lifespan shares with the server and with every request's scope.
STATE = "drain"
# Another process, or the next one, is there by then.
RETRY_AFTER_S = 1.0
# How long the clients of stopped requests have to read the error.
STOPPED_ANSWER_S = 2
_IDLE_CHECK_INTERVAL_S = 0.05


class Phase(IntEnum):
    """How far it is."""

    SERVING = 0
    UNREADY = 1  # still serves, says that it will not for long, and keeps no connection open
    CLOSED = 2  # finishes what it has begun
    OVER = 3  # running requests are cancelled, and get an error


class Drain:
    """The phase of the shutdown: the server sets it, the app reads it."""

    def __init__(self) -> None:
        self.phase = Phase.SERVING

    def reach(self, phase: Phase) -> None:
        """Go on to a phase; there is no way back."""
        self.phase = max(self.phase, phase)

    async def run(
        self,
        requests: Collection[asyncio.Task[Any]],
        settings: Settings,
        *,
        connections: Collection[object] = (),
        close: Callable[[], None] = lambda: None,
    ) -> None:
        """Shut down in phases; returns when nothing runs any more, or when time is up.

        Args:
            requests, connections: the open ones at any moment.
            close: stops taking new connections.
        """

        async def is_idle_within(limit_s: float) -> bool:
            loop = asyncio.get_running_loop()
            ends_at = loop.time() + limit_s
            while (requests or connections) and loop.time() < ends_at:  # noqa: ASYNC110  # uvicorn has no event for it
                await asyncio.sleep(_IDLE_CHECK_INTERVAL_S)
            return not (requests or connections)

        self.reach(Phase.UNREADY)
        if settings.shutdown_delay_s:
            logger.info("unready; new requests are taken for another %g s", settings.shutdown_delay_s)
            await asyncio.sleep(settings.shutdown_delay_s)
        self.reach(Phase.CLOSED)
        close()
        logger.info("no new requests are taken; %d are running", len(requests))
        if not await is_idle_within(settings.shutdown_grace_s):
            logger.warning("%d requests are stopped: they took longer than the grace", len(requests))
            self.reach(Phase.OVER)
            for task in list(requests):
                task.cancel()
            await is_idle_within(STOPPED_ANSWER_S)

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
        """The error for the client of a cancelled task, if it was cancelled by the shutdown."""
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
