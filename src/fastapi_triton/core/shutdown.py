# SPDX-License-Identifier: Apache-2.0
"""The phases of a shutdown: unready, then no new requests, then running requests are cancelled."""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from enum import IntEnum
from typing import Any

from fastapi_triton.core.errors import ShuttingDownError
from fastapi_triton.core.settings import Settings

logger = logging.getLogger(__name__)

# The key of an app's `Drain` in the state that its lifespan shares with the server and with every request's scope.
STATE = "drain"
# By then another process, or the next one, accepts requests.
RETRY_AFTER_S = 1.0
# Time for the clients of cancelled requests to read the error.
ERROR_RESPONSE_S = 2
_IDLE_CHECK_INTERVAL_S = 0.05


class Phase(IntEnum):
    """A phase of the shutdown."""

    SERVING = 0
    UNREADY = 1  # still serves, but probes fail and connections are closed after each response
    CLOSED = 2  # finishes running requests
    OVER = 3  # running requests are cancelled, and get an error


class Drain:
    """The current phase of the shutdown. The server sets it; the app reads it."""

    def __init__(self) -> None:
        self.phase = Phase.SERVING

    def reach(self, phase: Phase) -> None:
        """Advance to a phase; earlier phases are ignored."""
        self.phase = max(self.phase, phase)

    async def run(
        self,
        requests: Collection[asyncio.Task[Any]],
        settings: Settings,
        *,
        connections: Collection[object] = (),
        close: Callable[[], None] = lambda: None,
    ) -> None:
        """Shut down in phases. Returns when no request is running, or when the time is up.

        Args:
            requests, connections: live collections of the open ones.
            close: stops accepting connections.
        """

        async def is_idle_within(limit_s: float) -> bool:
            loop = asyncio.get_running_loop()
            ends_at = loop.time() + limit_s
            while (requests or connections) and loop.time() < ends_at:  # noqa: ASYNC110  # uvicorn has no event for it
                await asyncio.sleep(_IDLE_CHECK_INTERVAL_S)
            return not (requests or connections)

        self.reach(Phase.UNREADY)
        if settings.shutdown_delay_s:
            logger.info("unready; new requests are accepted for another %g s", settings.shutdown_delay_s)
            await asyncio.sleep(settings.shutdown_delay_s)
        self.reach(Phase.CLOSED)
        close()
        logger.info("no new requests are accepted; %d are running", len(requests))
        if not await is_idle_within(settings.shutdown_grace_s):
            logger.warning("%d requests are cancelled: they took longer than shutdown_grace_s", len(requests))
            self.reach(Phase.OVER)
            for task in list(requests):
                task.cancel()
            await is_idle_within(ERROR_RESPONSE_S)

    def require_open(self) -> None:
        """Check that new requests are accepted.

        Raises:
            ShuttingDownError: they are not.
        """
        if self.phase >= Phase.CLOSED:
            raise ShuttingDownError(
                "This server is shutting down and accepts no new requests. The request was not run; try again.",
                retry_after_s=RETRY_AFTER_S,
            )

    def explain(self, cancelled: asyncio.CancelledError) -> Exception | asyncio.CancelledError:
        """The error for the client, if the shutdown cancelled the task; else the cancellation itself."""
        if self.phase < Phase.OVER:
            return cancelled
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()
        return ShuttingDownError(
            "This server is shutting down and cancelled the request, which took too long. Try again.",
            retry_after_s=RETRY_AFTER_S,
        )


_NEVER = Drain()


def of(scope: Mapping[str, Any]) -> Drain:
    """The drain of the request's server. If the server has none, a drain that never begins."""
    found = scope.get("state", {}).get(STATE)
    return found if isinstance(found, Drain) else _NEVER
