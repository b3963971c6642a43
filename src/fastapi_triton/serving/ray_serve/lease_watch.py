# SPDX-License-Identifier: Apache-2.0
"""Checks whether the frontends that hold leases are alive: Ray does not report their death to a replica."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from fastapi_triton.core.background import BackgroundTask

INTERVAL_S = 2.0


@dataclass(slots=True)
class _Holder:
    """An actor that holds leases. `watching` ends with the last of them."""

    num_leases: int = 0
    is_gone: asyncio.Event = field(default_factory=asyncio.Event)
    watching: asyncio.Task[None] | None = None


class LeaseHolders:
    """Checks every few seconds whether the actors that hold leases are alive.

    An actor that was never found does not count as gone: it may have another name.
    """

    def __init__(self, is_alive: Callable[[str], Awaitable[bool]], *, interval_s: float = INTERVAL_S) -> None:
        self._is_alive = is_alive
        self._interval_s = interval_s
        self._holders: dict[str, _Holder] = {}
        self._task = BackgroundTask("lease holders", consequence="Leases of a dead frontend last until their limit.")

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
        was_found = False

        async def check() -> float | None:
            nonlocal was_found
            is_alive = await self._is_alive(name)
            if was_found and not is_alive:
                holder.is_gone.set()
                return None
            was_found = was_found or is_alive
            return self._interval_s if holder.num_leases else None

        try:
            with self._task.listed():
                await self._task.repeat(check)
        finally:
            if self._holders.get(name) is holder:
                del self._holders[name]
