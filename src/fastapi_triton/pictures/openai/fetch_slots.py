# SPDX-License-Identifier: Apache-2.0
"""Limits how many pictures are fetched at once, in all and for one caller: slow URLs must not delay other callers."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import Future
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from fastapi_triton.core.errors import FastAPITritonError, OverloadedError, TooManyRequestsError

RETRY_AFTER_S = 1.0


@dataclass(slots=True)
class _Caller:
    slots: asyncio.Semaphore
    num_requests: int = 0  # that hold a slot or wait for one


class FetchSlots:
    """The slots of one process. Requests wait for them, first for one of their caller's, then for one of all.

    Args:
        total: slots of all callers together.
        per_caller: slots of one caller.
    """

    def __init__(self, *, total: int, per_caller: int) -> None:
        self._per_caller = per_caller
        self._of_all = asyncio.Semaphore(total)
        self._callers: dict[str, _Caller] = {}  # those with a request

    @asynccontextmanager
    async def slot(self, caller: str, *, until: float) -> AsyncGenerator[Callable[[Future[Any]], None]]:
        """Take a slot during the `async with` block. `until` is on the event loop's clock.

        The block gets a function to name its work in threads, which cannot be cancelled. The slot stays taken until
        that is done. Otherwise a caller could occupy all threads with requests that it leaves at once.

        Raises:
            TooManyRequestsError: the caller's other requests held its slots until then.
            OverloadedError: other callers held all slots until then.
        """
        with ExitStack() as held:
            of_caller = held.enter_context(self._slots_of(caller))
            await _acquire(of_caller, until, self._too_many)
            held.callback(of_caller.release)
            await _acquire(self._of_all, until, _busy)
            held.callback(self._of_all.release)
            work: list[Future[Any]] = []
            try:
                yield work.append
            finally:
                _close_when_done(held.pop_all(), work)

    @contextmanager
    def _slots_of(self, name: str) -> Generator[asyncio.Semaphore]:
        caller = self._callers.setdefault(name, _Caller(asyncio.Semaphore(self._per_caller)))
        caller.num_requests += 1
        try:
            yield caller.slots
        finally:
            caller.num_requests -= 1
            if not caller.num_requests:
                del self._callers[name]

    def _too_many(self) -> FastAPITritonError:
        detail = (
            f"The server is fetching {self._per_caller} pictures for your other requests, the limit for one caller. "
            "Send the pictures' bytes, or fewer requests with URLs at once."
        )
        return TooManyRequestsError(detail, code="too_many_image_urls", retry_after_s=RETRY_AFTER_S)


def _busy() -> FastAPITritonError:
    detail = "The server is fetching too many pictures for others. Send the pictures' bytes, or try again later."
    return OverloadedError(detail, code="image_urls_busy", retry_after_s=RETRY_AFTER_S)


async def _acquire(slots: asyncio.Semaphore, until: float, refusal: Callable[[], FastAPITritonError]) -> None:
    try:
        async with asyncio.timeout_at(until):
            await slots.acquire()
    except TimeoutError:
        raise refusal() from None


def _close_when_done(held: ExitStack, work: list[Future[Any]]) -> None:
    """Release what is held, now or when all work is done."""
    left = next((each for each in work if not each.done()), None)
    if left is None:
        held.close()
        return
    loop = asyncio.get_running_loop()

    def go_on(_: Future[Any]) -> None:
        with suppress(RuntimeError):  # the app has stopped meanwhile
            loop.call_soon_threadsafe(_close_when_done, held, work)

    left.add_done_callback(go_on)
