# SPDX-License-Identifier: Apache-2.0
"""Who holds a lease and dies is noticed; who lives, or holds nothing, is left alone."""

import asyncio
import itertools

from fastapi_triton.serving.ray_serve.lease_watch import LeaseHolders


async def test_only_the_leases_of_a_dead_holder_end() -> None:
    was_asked_often, counted = asyncio.Event(), itertools.count(1)
    dying = iter((True, True, False))

    async def is_alive(name: str) -> bool:
        if name == "dying":
            return next(dying)
        if next(counted) == 9:
            was_asked_often.set()
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
        await was_asked_often.wait()
        assert not is_alive_gone.is_set()
        assert not is_unseen_gone.is_set()


async def test_actors_without_leases_are_not_checked() -> None:
    asked = asyncio.Event()

    async def is_alive(_: str) -> bool:
        asked.set()
        return True

    holders = LeaseHolders(is_alive, interval_s=0)
    with holders.holding("frontend"):
        await asked.wait()
    await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()})  # it ends by itself
    # And looked for again when it holds something again.
    asked.clear()
    with holders.holding("frontend"):
        await asked.wait()
    await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()})  # it ends by itself
