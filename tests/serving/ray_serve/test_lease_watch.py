# SPDX-License-Identifier: Apache-2.0
"""Leases of a dead holder end; living holders keep theirs, and actors without leases are not checked."""

import asyncio
import itertools

from fastapi_triton.serving.ray_serve.lease_watch import LeaseHolders


async def test_only_the_leases_of_a_dead_holder_end() -> None:
    was_checked_often, counted = asyncio.Event(), itertools.count(1)
    dying = iter((True, True, False))

    async def is_alive(name: str) -> bool:
        if name == "dying":
            return next(dying)
        if next(counted) == 9:
            was_checked_often.set()
        return name == "alive"

    holders = LeaseHolders(is_alive, interval_s=0)
    with (
        holders.holding("dying") as is_gone,
        holders.holding("dying") as is_gone_too,
        holders.holding("alive") as is_alive_gone,
        holders.holding("never seen") as is_unseen_gone,
    ):
        await is_gone.wait()
        assert is_gone_too.is_set()
        await was_checked_often.wait()
        assert not is_alive_gone.is_set()
        assert not is_unseen_gone.is_set()


async def test_actors_without_leases_are_not_checked() -> None:
    was_checked = asyncio.Event()

    async def is_alive(_: str) -> bool:
        was_checked.set()
        return True

    holders = LeaseHolders(is_alive, interval_s=0)
    with holders.holding("frontend"):
        await was_checked.wait()
    await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()})  # the check ends by itself
    # The check starts again with the next lease.
    was_checked.clear()
    with holders.holding("frontend"):
        await was_checked.wait()
    await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()})  # the check ends by itself
