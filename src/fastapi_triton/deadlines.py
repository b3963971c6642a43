# SPDX-License-Identifier: Apache-2.0
"""Until when a request's answer is of use: what every wait on its way, the one for Triton too, must not outlast."""

import time
from contextvars import ContextVar

# In `time.monotonic()` seconds; None: the request has none, as work that nobody waits for.
current_deadline: ContextVar[float | None] = ContextVar("current_deadline", default=None)


def remaining_s(limit_s: float) -> float:
    """How long may still be waited: until the request's deadline, and no longer than `limit_s`. Negative when late."""
    deadline = current_deadline.get()
    return limit_s if deadline is None else min(limit_s, deadline - time.monotonic())
