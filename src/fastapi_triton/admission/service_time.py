# SPDX-License-Identifier: Apache-2.0
"""Measured service times of a model, for `Retry-After` and for deadlines that cannot be met."""


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


# Mean deviations above the mean; 94% of a normal distribution lie below.
_DEVIATIONS = 2


class ServiceTime:
    """Service times of one model with `num_slots`: how long a request holds its slot, and how often one becomes free.

    The second is measured from one end to the next while every slot is taken. Only then the model decides it, and not
    the request rate. So no assumption is needed about how many requests the model works on concurrently.
    """

    # In multiples of the slots, so that it covers several rounds of a model that ends all requests at once.
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
        """The mean time that a request holds its slot."""
        return self._service.value

    @property
    def most_s(self) -> float:
        """A time within which nearly every request releases its slot; 0 before the first."""
        return (self._service.value or 0.0) + _DEVIATIONS * (self._deviation.value or 0.0)

    @property
    def interval_s(self) -> float | None:
        """The mean time between two free slots while all are taken; a lower bound before it was measured."""
        if self._interval.value is not None or self._service.value is None:
            return self._interval.value
        return self._service.value / self._num_slots

    def begun(self, now: float) -> None:
        """The model is no longer idle."""
        self._working_since = now
        self._last_full_end = None

    def ended(self, now: float, *, service_s: float | None, was_full: bool) -> None:
        """Record a freed slot. `service_s`: how long it was held, if the model completed the work."""
        if service_s is not None:
            self._service.add(service_s)
            self._deviation.add(abs(service_s - (self._service.value or 0.0)))
        if was_full and self._last_full_end is not None:
            self._interval.add(now - self._last_full_end)
        self._last_full_end = now if was_full else None
        self._working_since = now

    def wait_s(self, num_ahead: int, now: float) -> float | None:
        """The estimated wait of a request with this many before it, while all slots are taken; None if unknown."""
        interval_s, service_s = self.interval_s, self.service_s
        if interval_s is None:
            return None
        overdue_s = now - self._working_since - (service_s if service_s is not None else interval_s)
        return (num_ahead + 1) * interval_s + max(0.0, overdue_s)
