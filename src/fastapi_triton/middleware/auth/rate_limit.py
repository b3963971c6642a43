# SPDX-License-Identifier: Apache-2.0
"""A token bucket, as one number per client."""

# Sums of floats are off by less than this; no client waits for it.
_ROUNDING_S = 1e-6


class TokenBucket:
    """Holds `burst` tokens; one comes back every `interval_s`. (As a "virtual scheduling" GCRA, so it needs no clock
    tick and no count: what is kept is when the bucket will be full again.)"""

    __slots__ = ("_full_at_s", "_interval_s", "_tolerance_s")

    def __init__(self, requests_per_minute: float, burst: int) -> None:
        self._interval_s = 60 / requests_per_minute
        self._tolerance_s = (burst - 1) * self._interval_s
        self._full_at_s = 0.0

    def take(self, now_s: float) -> float:
        """Take a token: 0.0 where there was one, else after how many seconds there will be; then none is taken."""
        full_at_s = max(self._full_at_s, now_s)
        wait_s = full_at_s - now_s - self._tolerance_s
        if wait_s > _ROUNDING_S:
            return wait_s - _ROUNDING_S
        self._full_at_s = full_at_s + self._interval_s
        return 0.0


def default_burst(requests_per_minute: float) -> int:
    """Ten seconds' worth, where nothing is said."""
    return max(1, round(requests_per_minute / 6))
