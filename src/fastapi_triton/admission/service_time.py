# SPDX-License-Identifier: Apache-2.0
"""How long a model takes, as measured: from it come `Retry-After`, and what cannot be done before its deadline."""


class MovingAverage:
    """The mean of about the last `window` values; None before the first."""

    __slots__ = ("_num_values", "value", "window")

    def __init__(self, window: int) -> None:
        self.window = window
        self.value: float | None = None
        self._num_values = 0

    def add(self, value: float) -> None:
        if self.value is None:
            self.value = value
        if self._num_values < self.window:
            self._num_values += 1
        self.value += (value - self.value) / self._num_values


# Mean deviations above the mean; of a normal distribution 94% lie below.
_DEVIATIONS = 2


class ServiceTime:
    """Of one model with `num_slots`: how long a request holds its slot, and how often one comes free.

    The second is measured, from one end to the next, only while every slot is taken: only then it is the model that
    decides, and not how many ask. It needs no guess at what the model does at the same time and what one by one.
    """

    # Of the slots, so that a model which ends all its requests at once is seen several times.
    _WINDOW = 2
    _LEAST_WINDOW = 16

    def __init__(self, num_slots: int) -> None:
        window = max(self._LEAST_WINDOW, self._WINDOW * num_slots)
        self._num_slots = num_slots
        self._service = MovingAverage(window)
        self._deviation = MovingAverage(window)
        self._interval = MovingAverage(window)
        self._last_full_end: float | None = None
        self._working_since = 0.0  # when the last one ended, or the first began

    @property
    def service_s(self) -> float | None:
        """How long a request holds its slot, on average."""
        return self._service.value

    @property
    def most_s(self) -> float:
        """How long nearly every request holds its slot; 0 before the first."""
        return (self._service.value or 0.0) + _DEVIATIONS * (self._deviation.value or 0.0)

    @property
    def interval_s(self) -> float | None:
        """The mean time between two free slots while all are taken; a lower bound until that was measured."""
        if self._interval.value is not None or self._service.value is None:
            return self._interval.value
        return self._service.value / self._num_slots

    def begun(self, now: float) -> None:
        """The model was idle, and is not any more."""
        self._working_since = now
        self._last_full_end = None

    def ended(self, now: float, *, service_s: float | None, was_full: bool) -> None:
        """Record a free slot. `service_s`: how long it was held, if the model completed the work."""
        if service_s is not None:
            self._service.add(service_s)
            self._deviation.add(abs(service_s - (self._service.value or 0.0)))
        if was_full and self._last_full_end is not None:
            self._interval.add(now - self._last_full_end)
        self._last_full_end = now if was_full else None
        self._working_since = now

    def wait_s(self, num_ahead: int, now: float) -> float | None:
        """How long a request waits that has this many before it, while all slots are taken; None: not known yet."""
        interval_s, service_s = self.interval_s, self.service_s
        if interval_s is None:
            return None
        overdue_s = now - self._working_since - (service_s if service_s is not None else interval_s)
        return (num_ahead + 1) * interval_s + max(0.0, overdue_s)
