# SPDX-License-Identifier: Apache-2.0
"""Which frontends that hold leases are alive. Ray reports no caller that has died, so they are looked up."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from fastapi_triton.core.background import BackgroundTask

INTERVAL_S = 2.0


@dataclass(slots=True)
class _Holder:
    """One actor with leases; `watching` ends with the last of them."""

    num_leases: int = 0
    is_gone: asyncio.Event = field(default_factory=asyncio.Event)
    watching: asyncio.Task[None] | None = None


class LeaseHolders:
    """Looks every few seconds whether the actors that hold leases are alive.

    An actor that was never seen does not count as gone: it may have another name.
    """

    def __init__(self, is_alive: Callable[[str], Awaitable[bool]], *, interval_s: float = INTERVAL_S) -> None:
        self._is_alive = is_alive
        self._interval_s = interval_s
        self._holders: dict[str, _Holder] = {}
        self._task = BackgroundTask("lease holders", consequence="Leases of a frontend that died last to their limit.")

    @contextmanager
    def holding(self, name: str) -> Iterator[asyncio.Event]:
        """Count a lease of an actor for the duration of the block. The event is set when the actor is gone."""
        holder = self._holders.setdefault(name, _Holder())
        holder.num_leases += 1
        if holder.watching is None:
            holder.watching = asyncio.create_task(self._watch(name, holder))
        try:
            yield holder.is_gone
        finally:
            holder.num_leases -= 1

    async def _watch(self, name: str, holder: _Holder) -> None:
        was_seen = False

        async def look() -> float | None:
            nonlocal was_seen
            is_there = await self._is_alive(name)
            if was_seen and not is_there:
                holder.is_gone.set()
                return None
            was_seen = was_seen or is_there
            return self._interval_s if holder.num_leases else None

        try:
            with self._task.listed():
                await self._task.repeat(look)
        finally:
            if self._holders.get(name) is holder:
                del self._holders[name]
