# SPDX-License-Identifier: Apache-2.0
"""A token bucket that needs one number per caller."""

# Rounding errors of float sums are below this. The returned wait is shorter by it, so that an error adds no second to
# `Retry-After`; and a token is given up to twice this early, so that the returned wait is always enough.
_ROUNDING_S = 1e-6


class TokenBucket:
    """Holds `burst` tokens, and refills one token every `60 / requests_per_minute` seconds.

    It is a "virtual scheduling" GCRA, which needs no timer and no count: it keeps the time at which the bucket will be
    full again.
    """

    __slots__ = ("_full_at_s", "_interval_s", "_tolerance_s")

    def __init__(self, requests_per_minute: float, burst: int) -> None:
        self._interval_s = 60 / requests_per_minute
        self._tolerance_s = (burst - 1) * self._interval_s
        self._full_at_s = 0.0

    def take(self, now_s: float) -> float:
        """Take a token and return 0.0. Without a token, take none, and return the seconds until there will be one."""
        full_at_s = max(self._full_at_s, now_s)
        wait_s = full_at_s - now_s - self._tolerance_s
        if wait_s > 2 * _ROUNDING_S:
            return wait_s - _ROUNDING_S
        self._full_at_s = full_at_s + self._interval_s
        return 0.0


def default_burst(requests_per_minute: float) -> int:
    """The burst if the key file sets none: the requests of ten seconds."""
    return max(1, round(requests_per_minute / 6))
