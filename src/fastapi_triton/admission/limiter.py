# SPDX-License-Identifier: Apache-2.0
"""Limits the concurrent requests of each model. Others wait in a bounded fair queue, or are rejected."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from starlette.types import Receive

from fastapi_triton.admission.fair_queue import QueuePosition, QueueTicket, Waiter
from fastapi_triton.admission.model_queue import ModelQueue
from fastapi_triton.admission.priority_queue import PriorityQueue
from fastapi_triton.admission.service_time import ServiceTime
from fastapi_triton.core.context import Caller, current_caller, current_deadline
from fastapi_triton.core.disconnect import disconnected
from fastapi_triton.core.errors import (
    ClientDisconnectedError,
    DeadlineExceededError,
    FastAPITritonError,
    OverloadedError,
    TooManyRequestsError,
)
from fastapi_triton.core.request_record import WAIT, Stage
from fastapi_triton.core.slot import Slot, current_slot

# `Retry-After` before a model's first response.
DEFAULT_RETRY_AFTER_S = 1.0
# The factor by which the time until the deadline must exceed the estimated wait.
HEADROOM = 1.1
# For requests to models that Triton is not known to have.
UNKNOWN_MODEL = ""

logger = logging.getLogger(__name__)

Clock = Callable[[], float]


class Shares:
    """Counts the slots that each caller has and waits for, over all models, if there is a limit."""

    def __init__(self, max_per_caller: int = 0, *, are_counted: bool = True) -> None:
        self._max_per_caller = max_per_caller  # 0: no limit, except for callers with their own
        self._are_counted = are_counted
        self._taken: dict[str, int] = {}

    def bound(self, caller: Caller) -> int:
        """The most slots that this caller may have; 0: no limit."""
        return (caller.max_in_flight or self._max_per_caller) if self._are_counted else 0

    def taken(self, caller: str) -> int:
        return self._taken.get(caller, 0)

    def take(self, caller: str, count: int) -> None:
        self._taken[caller] = self._taken.get(caller, 0) + count

    def release(self, caller: str, count: int) -> None:
        left = self._taken[caller] - count
        if left:
            self._taken[caller] = left
        else:
            del self._taken[caller]


class Admission:
    """The slots of one model and their queue, for one process.

    Interactive requests pass batch requests; callers of one priority are served round-robin. If the queue is full, a
    new request displaces the newest request of the caller with the most waiting requests, if that caller has more than
    the new request's caller. Otherwise the new request is rejected.
    """

    def __init__(
        self,
        model: str,
        max_in_flight: int,
        *,
        max_waiting: int = 0,
        shares: Shares | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self.model = model
        self.max_in_flight = max_in_flight
        self.in_flight = 0
        self.refused: Counter[str] = Counter()
        self.times = ServiceTime(max_in_flight)
        self.model_queue = ModelQueue(clock)
        self._queue = PriorityQueue(max_waiting)
        self._shares = shares or Shares(are_counted=False)
        self._clock = clock

    @property
    def waiting(self) -> int:
        """The number of requests that wait for a slot."""
        return self._queue.num_waiting

    @property
    def max_waiting(self) -> int:
        """The most requests that may wait."""
        return self._queue.size

    def require_capacity(self, count: int = 1) -> None:
        """Reject a request that would get no slot, before its body is read. Raises the same errors as `slot`."""
        caller = current_caller.get()
        if bound := self._shares.bound(caller):
            self._require_share(caller, count, bound)
        if not self._has_free(count):
            self._require_chance(caller, count, self._clock())

    async def slot(self, count: int = 1, *, receive: Receive | None = None, ticket: QueueTicket | None = None) -> Slot:
        """Acquire this many slots, all or none. Waits in the queue until they are free.

        With `receive`, a disconnect of the client ends the wait; the request's body must have been read. The `ticket`
        shows the request's position in the queue.

        Raises:
            OverloadedError: the queue is full, or a request of another caller displaced this one; or the request
                could not be answered before its deadline.
            TooManyRequestsError: this caller has reached its limit.
            DeadlineExceededError: the deadline passed while the request waited.
            ClientDisconnectedError: the client disconnected while the request waited.
        """
        caller, now = current_caller.get(), self._clock()
        deadline = current_deadline.get()
        if deadline is not None and deadline <= now:
            raise self._refusal(late())
        share = None
        if bound := self._shares.bound(caller):
            self._require_share(caller, count, bound)
            share = caller.name
        if not self._has_free(count):
            waiter = Waiter(caller.name, count, deadline, _future(), share, caller.priority)
            slot = await self._wait(waiter, caller, now, receive, ticket or QueueTicket())
        else:
            if share is not None:
                self._shares.take(share, count)
            if not self.in_flight:
                self.times.begun(now)
            slot = self._take(count, now, share)
        current_slot.set(slot)
        return slot

    def spare_slot(self) -> Slot | None:
        """One more slot for a request that has its own, if it is free and no request waits for it.

        The caller releases it. It never waits: requests that wait for slots while they hold some could deadlock.
        """
        caller = current_caller.get()
        bound = self._shares.bound(caller)
        if not self._has_free(1) or (bound and self._shares.taken(caller.name) >= bound):
            return None
        share = caller.name if bound else None
        if share is not None:
            self._shares.take(share, 1)
        return self._take(1, self._clock(), share)

    def _has_free(self, count: int) -> bool:
        # A new request waits behind others, even if there are enough slots for it, but not for the next of them.
        return not self._queue.num_waiting and self.in_flight + count <= self.max_in_flight

    def _take(self, count: int, now: float, share: str | None) -> Slot:
        self.in_flight += count
        return Slot(count, since=now, free=self._free, share=share)

    def _free(self, slot: Slot) -> None:
        now = self._clock()
        self.times.ended(
            now,
            service_s=now - slot.since if slot.is_measured else None,
            was_full=self._queue.num_waiting > 0 or self.in_flight >= self.max_in_flight,
        )
        self.in_flight -= slot.count
        if slot.share is not None:
            self._shares.release(slot.share, slot.count)
        if self._queue.num_waiting:
            self._admit(now)

    # ---- the queue

    async def _wait(
        self, waiter: Waiter, caller: Caller, now: float, receive: Receive | None, ticket: QueueTicket
    ) -> Slot:
        displaced = self._require_chance(caller, waiter.count, now)
        if displaced is not None:
            self._turn_away(displaced, self._overloaded("Callers with fewer waiting requests came first", now))
        with self._queued(waiter, ticket), self._watched(waiter, now, receive), Stage(WAIT, self.model):
            return await waiter.turn

    @contextmanager
    def _queued(self, waiter: Waiter, ticket: QueueTicket) -> Iterator[None]:
        """Keep a request in the queue, and count it against its caller's limit, until it has its slot."""
        self._queue.enter(waiter)
        ticket.enter(partial(self._position, waiter))
        if waiter.share is not None:
            self._shares.take(waiter.share, waiter.count)
        try:
            yield
        except BaseException:
            if waiter.has_slot:
                waiter.turn.result().release()  # it was cancelled at the moment of its turn
            elif waiter.share is not None:
                self._shares.release(waiter.share, waiter.count)
            raise
        finally:
            ticket.leave()
            self._queue.leave(waiter)
            if self._queue.num_waiting:
                self._admit(self._clock())  # the next may need fewer slots than this one

    @contextmanager
    def _watched(self, waiter: Waiter, now: float, receive: Receive | None) -> Iterator[None]:
        """End a request's wait when its deadline passes, or its client disconnects."""
        watches: list[asyncio.TimerHandle | asyncio.Task[None]] = []
        if waiter.deadline is not None:
            loop = asyncio.get_running_loop()
            watches.append(loop.call_later(waiter.deadline - now, self._turn_away, waiter, late()))
        if receive is not None:
            leaving = asyncio.create_task(disconnected(receive))
            leaving.add_done_callback(partial(self._left, waiter))
            watches.append(leaving)
        try:
            yield
        finally:
            for watch in watches:
                watch.cancel()

    def _position(self, waiter: Waiter) -> QueuePosition:
        """The position in this queue and the model's own, since the request will wait in both."""
        num_before = 0 if waiter.turn.done() else self._queue.num_before(waiter)
        position = num_before + 1 + self.model_queue.num_waiting
        until_slot_s, service_s = self.times.wait_s(num_before, self._clock()), self.times.service_s
        if until_slot_s is None or service_s is None:
            return QueuePosition(position, until_slot_s)
        return QueuePosition(position, until_slot_s + self.model_queue.wait_s, until_slot_s + service_s)

    def _admit(self, now: float) -> None:
        """Give free slots to the next requests in the queue."""
        while (waiter := self._queue.next) is not None:
            if waiter.turn.done():
                self._queue.leave(waiter)  # it was cancelled, but its task has not run yet
            elif self.in_flight + waiter.count > self.max_in_flight:
                return
            elif waiter.deadline is not None and now + (self.times.service_s or 0.0) > waiter.deadline:
                needed_s = self.times.service_s or 0.0
                self._turn_away(waiter, self._out_of_reach(needed_s, waiter.deadline - now))
            else:
                self._queue.admit()
                waiter.turn.set_result(self._take(waiter.count, now, waiter.share))

    def _turn_away(self, waiter: Waiter, error: FastAPITritonError) -> None:
        self._queue.leave(waiter)
        if not waiter.turn.done():
            waiter.turn.set_exception(self._refusal(error))

    def _left(self, waiter: Waiter, leaving: asyncio.Task[None]) -> None:
        if not leaving.cancelled():
            logger.info("the client disconnected while its request waited")
            self._turn_away(waiter, ClientDisconnectedError("The client disconnected while the request waited."))

    # ---- rejections

    def _require_share(self, caller: Caller, count: int, bound: int) -> None:
        taken = self._shares.taken(caller.name)
        if taken + count > bound:
            at_once = f"This server accepts {bound} requests of one caller at once, running and waiting"
            if count > bound:
                raise self._refusal(
                    TooManyRequestsError(f"{at_once}. This request counts as {count}. Send less at once.")
                )
            raise self._refusal(
                TooManyRequestsError(
                    f"{at_once}. You have {taken}. Wait until one of them ends.",
                    retry_after_s=self.times.service_s or DEFAULT_RETRY_AFTER_S,
                )
            )

    def _require_chance(self, caller: Caller, count: int, now: float) -> Waiter | None:
        """Reject a new request that may not wait, or would wait too long. Returns the request that it displaces."""
        if count > self.max_in_flight:
            raise self._refusal(
                OverloadedError(f"The request needs {count} slots; the model has {self.max_in_flight}.")
            )
        deadline = current_deadline.get()
        wait_s = self.times.wait_s(self._queue.num_ahead(caller), now)
        if wait_s is not None and deadline is not None:
            needed_s = HEADROOM * wait_s + self.times.most_s
            if now + needed_s > deadline:
                raise self._refusal(self._out_of_reach(needed_s, deadline - now))
        if not self._queue.is_full:
            return None
        giving_way = self._queue.giving_way_to(caller)
        if giving_way is None:
            raise self._refusal(self._overloaded("The queue is full", now))
        return giving_way

    def _out_of_reach(self, needed_s: float, left_s: float) -> OverloadedError:
        return OverloadedError(
            f"A response would take about {needed_s:.2g} s now, but the deadline is in {max(0, left_s):.2g} s. "
            "Nothing was run. Try again later, or allow more time.",
            code="deadline_out_of_reach",
            retry_after_s=max(needed_s - left_s, self.times.interval_s or 0.0),
        )

    def _overloaded(self, why: str, now: float) -> OverloadedError:
        waiting = f" and {self.waiting} wait" if self._queue.size else ""
        return OverloadedError(
            f"{self.in_flight} requests are running{waiting}. {why}. Try again later.",
            retry_after_s=self.times.wait_s(self.waiting, now) or DEFAULT_RETRY_AFTER_S,
        )

    def _refusal(self, error: FastAPITritonError) -> FastAPITritonError:
        self.refused[error.code] += 1
        return error


def _future() -> asyncio.Future[Slot]:
    return asyncio.get_running_loop().create_future()


def late() -> DeadlineExceededError:
    """The error for a request whose deadline passed before it was sent to Triton."""
    return DeadlineExceededError("The request's deadline passed while it waited. Nothing was run. Try again later.")


class Admissions:
    """The admission of each model. All unknown names share one, so that clients cannot create any."""

    def __init__(
        self,
        max_in_flight: int,
        *,
        max_waiting: int = 0,
        max_per_caller: int = 0,
        clock: Clock = time.monotonic,
    ) -> None:
        self.max_in_flight = max_in_flight
        self._max_waiting = max_waiting
        self._shares = Shares(max_per_caller)
        self._clock = clock
        self._of_unknown = self._new(UNKNOWN_MODEL)
        self._by_model: dict[str, Admission] = {}

    @property
    def in_flight(self) -> int:
        """Over all models."""
        return sum(each.in_flight for each in self.all)

    @property
    def waiting(self) -> int:
        """Over all models."""
        return sum(each.waiting for each in self.all)

    @property
    def all(self) -> list[Admission]:
        """The admission of unknown names, and those of all models that had a request."""
        return [self._of_unknown, *dict.fromkeys(self._by_model.values())]

    def of(self, model: str) -> Admission:
        """The admission of a model that Triton has, or that the app declares."""
        admission = self._by_model.get(model)
        if admission is None:
            admission = self._by_model[model] = self._new(model)
        return admission

    def of_pair(self, model: str, stream_model: str | None) -> Admission:
        """The admission of a model and its stream model, which share one under the name of the first."""
        admission = self._by_model.get(model) or self._by_model.get(stream_model or model) or self.of(model)
        self._by_model[model] = admission
        if stream_model:
            self._by_model[stream_model] = admission
        return admission

    def of_name(self, name: str) -> Admission:
        """The admission of a name from a client. If Triton has such a model, `of` was called before."""
        return self._by_model.get(name, self._of_unknown)

    def _new(self, model: str) -> Admission:
        return Admission(
            model,
            self.max_in_flight,
            max_waiting=self._max_waiting,
            shares=self._shares,
            clock=self._clock,
        )
