# SPDX-License-Identifier: Apache-2.0
"""How much of a model's work may be at Triton at once, and who waits for it; the rest is turned away at the door."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from starlette.types import Receive

from fastapi_triton.admission.fair_queue import QueuePosition, QueueTicket, Waiter, WaitingRoom
from fastapi_triton.admission.service_time import ServiceTime
from fastapi_triton.core.context import Caller, current_caller, current_deadline
from fastapi_triton.core.disconnect import disconnected
from fastapi_triton.core.errors import (
    CallerLeftError,
    DeadlineExceededError,
    FastAPITritonError,
    OverloadedError,
    TooManyRequestsError,
)
from fastapi_triton.core.request_record import WAIT, Stage
from fastapi_triton.core.slot import Place, current_place

# Told in `Retry-After` of a model that has not answered anything yet.
DEFAULT_RETRY_AFTER_S = 1.0
# By how much waiting may take longer than is estimated, for a request that is let in to be in time all the same.
HEADROOM = 1.1
# For requests that name a model which Triton has not been seen to have.
UNKNOWN_MODEL = ""

logger = logging.getLogger(__name__)

Clock = Callable[[], float]


class Shares:
    """How many places each caller has and waits for, over all models, where that is bounded."""

    def __init__(self, max_per_caller: int = 0, *, are_counted: bool = True) -> None:
        self._max_per_caller = max_per_caller  # 0: unbounded, but for callers with a bound of their own
        self._are_counted = are_counted
        self._taken: dict[str, int] = {}

    def bound(self, caller: Caller) -> int:
        """The most that this caller may have; 0: as many as there are."""
        return (caller.max_in_flight or self._max_per_caller) if self._are_counted else 0

    def taken(self, caller: str) -> int:
        return self._taken.get(caller, 0)

    def take(self, caller: str, count: int) -> None:
        self._taken[caller] = self._taken.get(caller, 0) + count

    def give_back(self, caller: str, count: int) -> None:
        left = self._taken[caller] - count
        if left:
            self._taken[caller] = left
        else:
            del self._taken[caller]


@dataclass(frozen=True, slots=True)
class AdmissionState:
    """How a model is doing now. `refused` counts, by the error's code, since the start; times are in seconds."""

    model: str
    in_flight: int
    max_in_flight: int
    waiting: int
    max_waiting: int
    refused: Mapping[str, int]
    service_s: float | None
    interval_s: float | None


class Admission:
    """A bound on one model's requests in flight, and a waiting room before it. It holds for one process.

    Callers are served in turn. When the room is full, a newcomer takes the place of the youngest of the caller who has
    most waiting, where that one has more than the newcomer's; else it is refused.
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
        self._room = WaitingRoom(max_waiting)
        self._shares = shares or Shares(are_counted=False)
        self._clock = clock

    @property
    def waiting(self) -> int:
        """How many requests wait for a place."""
        return self._room.num_waiting

    @property
    def state(self) -> AdmissionState:
        """All of it, to be read by others."""
        return AdmissionState(
            model=self.model,
            in_flight=self.in_flight,
            max_in_flight=self.max_in_flight,
            waiting=self.waiting,
            max_waiting=self._room.size,
            refused=dict(self.refused),
            service_s=self.times.service_s,
            interval_s=self.times.interval_s,
        )

    def require_room(self, count: int = 1) -> None:
        """Refuse at once what would be refused in the end, before its body is read. Raises what `place` raises."""
        caller = current_caller.get()
        if bound := self._shares.bound(caller):
            self._require_share(caller, count, bound)
        if not self._has_free(count):
            self._require_chance(caller, count, self._clock())

    async def place(
        self, count: int = 1, *, receive: Receive | None = None, ticket: QueueTicket | None = None
    ) -> Place:
        """So many places, all of them or none; waits for its turn where they are taken.

        With `receive` a caller who leaves meanwhile is noticed; its request's body must have been read. The `ticket`
        shows where the request stands meanwhile.

        Raises:
            OverloadedError: the waiting room is full, or somebody who has less took the place in it; or the request
                could not be answered before its deadline.
            TooManyRequestsError: this caller has as many already as it may.
            DeadlineExceededError: its deadline passed while it waited.
            CallerLeftError: its caller left while it waited.
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
            waiter = Waiter(caller.name, count, deadline, _future(), share)
            place = await self._wait(waiter, caller, now, receive, ticket or QueueTicket())
        else:
            if share is not None:
                self._shares.take(share, count)
            if not self.in_flight:
                self.times.begun(now)
            place = self._take(count, now, share)
        current_place.set(place)
        return place

    def _has_free(self, count: int) -> bool:
        # Who comes while others wait stands behind them, even where there is room for it and not for the next of them.
        return not self._room.num_waiting and self.in_flight + count <= self.max_in_flight

    def _take(self, count: int, now: float, share: str | None) -> Place:
        self.in_flight += count
        return Place(count, since=now, free=self._free, share=share)

    def _free(self, place: Place) -> None:
        now = self._clock()
        self.times.ended(
            now,
            service_s=now - place.since if place.is_measured else None,
            was_full=self._room.num_waiting > 0 or self.in_flight >= self.max_in_flight,
        )
        self.in_flight -= place.count
        if place.share is not None:
            self._shares.give_back(place.share, place.count)
        if self._room.num_waiting:
            self._admit(now)

    # ---- the waiting room

    async def _wait(
        self, waiter: Waiter, caller: Caller, now: float, receive: Receive | None, ticket: QueueTicket
    ) -> Place:
        giving_way = self._require_chance(caller, waiter.count, now)
        if giving_way is not None:
            self._turn_away(giving_way, self._overloaded("Others who have less waiting came", now))
        self._room.enter(waiter)
        ticket.enter(partial(self._position, waiter))
        if waiter.share is not None:
            self._shares.take(waiter.share, waiter.count)
        watching = self._watch(waiter, now, receive)
        try:
            with Stage(WAIT, self.model):
                return await waiter.turn
        except BaseException:
            if waiter.turn.done() and not waiter.turn.cancelled() and waiter.turn.exception() is None:
                waiter.turn.result().give_back()  # it was its turn just when it was cancelled
            elif waiter.share is not None:
                self._shares.give_back(waiter.share, waiter.count)
            raise
        finally:
            ticket.leave()
            self._room.leave(waiter)
            for each in watching:
                each.cancel()
            if self._room.num_waiting:
                self._admit(self._clock())  # it may be this one for whom there was not room enough

    def _position(self, waiter: Waiter) -> QueuePosition:
        num_before = 0 if waiter.turn.done() else self._room.num_before(waiter)
        return QueuePosition(num_before + 1, self.times.wait_s(num_before, self._clock()))

    def _watch(
        self, waiter: Waiter, now: float, receive: Receive | None
    ) -> list[asyncio.TimerHandle | asyncio.Task[None]]:
        """What ends its waiting, besides its turn."""
        watching: list[asyncio.TimerHandle | asyncio.Task[None]] = []
        if waiter.deadline is not None:
            loop = asyncio.get_running_loop()
            watching.append(loop.call_later(waiter.deadline - now, self._turn_away, waiter, late()))
        if receive is not None:
            leaving = asyncio.create_task(disconnected(receive))
            leaving.add_done_callback(partial(self._left, waiter))
            watching.append(leaving)
        return watching

    def _admit(self, now: float) -> None:
        """Give what is free to whose turn it is."""
        while (waiter := self._room.next) is not None:
            if waiter.turn.done():
                self._room.leave(waiter)  # it was cancelled, and has not had its turn on the event loop yet
            elif self.in_flight + waiter.count > self.max_in_flight:
                return
            elif waiter.deadline is not None and now + (self.times.service_s or 0.0) > waiter.deadline:
                needed_s = self.times.service_s or 0.0
                self._turn_away(waiter, self._out_of_reach(needed_s, waiter.deadline - now))
            else:
                self._room.admit()
                waiter.turn.set_result(self._take(waiter.count, now, waiter.share))

    def _turn_away(self, waiter: Waiter, error: FastAPITritonError) -> None:
        self._room.leave(waiter)
        if not waiter.turn.done():
            waiter.turn.set_exception(self._refusal(error))

    def _left(self, waiter: Waiter, leaving: asyncio.Task[None]) -> None:
        if not leaving.cancelled():
            logger.info("the caller left while its request waited")
            self._turn_away(waiter, CallerLeftError("The caller left while it waited."))

    # ---- who is refused, and why

    def _require_share(self, caller: Caller, count: int, bound: int) -> None:
        taken = self._shares.taken(caller.name)
        if taken + count > bound:
            at_once = f"{bound} requests of one caller are taken at once, running and waiting"
            if count > bound:
                raise self._refusal(TooManyRequestsError(f"{at_once}, and this one counts as {count}. Ask for less."))
            raise self._refusal(
                TooManyRequestsError(
                    f"{at_once}, and {taken} of yours are here. Wait for one of them.",
                    retry_after_s=self.times.service_s or DEFAULT_RETRY_AFTER_S,
                )
            )

    def _require_chance(self, caller: Caller, count: int, now: float) -> Waiter | None:
        """That a newcomer may wait, and need not wait too long. Gives who has to make room for it, if anybody."""
        if count > self.max_in_flight:
            raise self._refusal(
                OverloadedError(f"{count} places are needed at once; the model has {self.max_in_flight}.")
            )
        deadline = current_deadline.get()
        wait_s = self.times.wait_s(self._room.num_ahead(caller.name), now)
        if wait_s is not None and deadline is not None:
            needed_s = HEADROOM * wait_s + self.times.most_s
            if now + needed_s > deadline:
                raise self._refusal(self._out_of_reach(needed_s, deadline - now))
        if not self._room.is_full:
            return None
        giving_way = self._room.giving_way_to(caller.name)
        if giving_way is None:
            raise self._refusal(self._overloaded("No more are taken", now))
        return giving_way

    def _out_of_reach(self, needed_s: float, left_s: float) -> OverloadedError:
        return OverloadedError(
            f"An answer would take about {needed_s:.2g} s now, and must be there in {max(0, left_s):.2g} s, so it was "
            "not begun. Try again later, or allow more time.",
            code="deadline_out_of_reach",
            retry_after_s=max(needed_s - left_s, self.times.interval_s or 0.0),
        )

    def _overloaded(self, why: str, now: float) -> OverloadedError:
        waiting = f" and {self.waiting} wait" if self._room.size else ""
        return OverloadedError(
            f"{self.in_flight} requests are in flight{waiting}. {why}. Try again later.",
            retry_after_s=self.times.wait_s(self.waiting, now) or DEFAULT_RETRY_AFTER_S,
        )

    def _refusal(self, error: FastAPITritonError) -> FastAPITritonError:
        self.refused[error.code] += 1
        return error


def _future() -> asyncio.Future[Place]:
    return asyncio.get_running_loop().create_future()


def late() -> DeadlineExceededError:
    """For one that never came to Triton."""
    return DeadlineExceededError(
        "The request's time was over before it was its turn; nothing was run. Try again later."
    )


class Admissions:
    """The admission of each model. Names that callers make up share one, so there are never more than models."""

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
        return sum(each.in_flight for each in self._all())

    @property
    def waiting(self) -> int:
        """Over all models."""
        return sum(each.waiting for each in self._all())

    @property
    def states(self) -> list[AdmissionState]:
        """Of every model that was asked, by name; the first is of all names that are not known to be models."""
        return [each.state for each in self._all()]

    def of(self, model: str) -> Admission:
        """Of a model that is there, or that the app declares."""
        admission = self._by_model.get(model)
        if admission is None:
            admission = self._by_model[model] = self._new(model)
        return admission

    def of_pair(self, model: str, stream_model: str | None) -> Admission:
        """Of a model and its twin, which do the same work: they share it, under the first's name."""
        admission = self._by_model.get(model) or self._by_model.get(stream_model or model) or self.of(model)
        self._by_model[model] = admission
        if stream_model:
            self._by_model[stream_model] = admission
        return admission

    def of_name(self, name: str) -> Admission:
        """Of a name that a caller gives, until `of` has been told that there is such a model."""
        return self._by_model.get(name, self._of_unknown)

    def _all(self) -> list[Admission]:
        return [self._of_unknown, *dict.fromkeys(self._by_model.values())]

    def _new(self, model: str) -> Admission:
        return Admission(
            model,
            self.max_in_flight,
            max_waiting=self._max_waiting,
            shares=self._shares,
            clock=self._clock,
        )
