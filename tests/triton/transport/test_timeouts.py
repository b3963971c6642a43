# SPDX-License-Identifier: Apache-2.0
"""One timer for many exchanges: each expires at its own time, in whatever order they came."""

import asyncio

from fastapi_triton.triton.transport.timeouts import Timeouts

FOREVER_S = 3600.0


class Exchange:
    def __init__(self) -> None:
        self.is_over = asyncio.Event()

    def expire(self) -> None:
        self.is_over.set()


async def test_the_shorter_one_expires_though_it_came_later() -> None:
    expiry, long, short = Timeouts(), Exchange(), Exchange()
    expiry.add(long, FOREVER_S)
    expiry.add(short, 0.01)
    await asyncio.wait_for(short.is_over.wait(), 10)
    assert not long.is_over.is_set()
    expiry.remove(long)
    expiry.close()


async def test_the_next_expires_after_the_first() -> None:
    expiry, first, second = Timeouts(), Exchange(), Exchange()
    expiry.add(first, 0.01)
    expiry.add(second, 0.03)
    await asyncio.wait_for(first.is_over.wait(), 10)
    await asyncio.wait_for(second.is_over.wait(), 10)


async def test_one_that_is_done_does_not_expire_and_the_timer_serves_the_next() -> None:
    expiry, done, next_one = Timeouts(), Exchange(), Exchange()
    expiry.add(done, 0.01)
    expiry.remove(done)
    expiry.add(next_one, 0.03)
    await asyncio.wait_for(next_one.is_over.wait(), 10)
    assert not done.is_over.is_set()


async def test_what_runs_when_it_closes_still_expires() -> None:
    expiry, running = Timeouts(), Exchange()
    expiry.add(running, 0.01)
    expiry.close()
    await asyncio.wait_for(running.is_over.wait(), 10)


async def test_one_that_has_no_time_expires_at_once() -> None:
    expiry, late = Timeouts(), Exchange()
    expiry.add(late, -1.0)
    await asyncio.wait_for(late.is_over.wait(), 10)


def test_it_serves_another_event_loop_though_something_ran_when_it_closed() -> None:
    expiry = Timeouts()

    async def closed_while_one_runs() -> None:
        running = Exchange()
        expiry.add(running, 0.05)
        expiry.close()
        expiry.remove(running)

    async def expires() -> None:
        late = Exchange()
        expiry.add(late, 0.1)  # after the timer that there was
        await asyncio.wait_for(late.is_over.wait(), 10)

    asyncio.run(closed_while_one_runs())
    asyncio.run(expires())
