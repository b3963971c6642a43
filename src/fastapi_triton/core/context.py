# SPDX-License-Identifier: Apache-2.0
"""Who asks: the owner of an API key, or an address. Places, limits and jobs are shared out by it."""

from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Caller:
    """One caller. Requests with equal names are one caller's.

    `name` is `key:<name of the key>` or `address:<IP address>`; it holds nothing secret. `scopes` are what it may do;
    None: everything, as where no keys are asked for. `max_in_flight`, where it has one of its own, bounds its requests
    in flight and waiting, over all models.
    """

    name: str
    scopes: frozenset[str] | None = field(default=None)
    max_in_flight: int | None = None


ANYONE = Caller("address:")

# Set by the middleware that knows callers, before anything asks for a place.
current_caller: ContextVar[Caller] = ContextVar("current_caller", default=ANYONE)


# MERGED
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


# MERGED
# SPDX-License-Identifier: Apache-2.0
"""The id of a request: the caller's `X-Request-ID`, or a new one. It goes to the log, to Triton and back."""

import os
import re
from contextvars import ContextVar

HEADER = "X-Request-ID"
NAME = HEADER.lower().encode()
# What a caller may choose: it ends up in logs and headers.
_ALLOWED = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")

current_request_id: ContextVar[str] = ContextVar("current_request_id", default="")


def choose(asked: bytes) -> str:
    """The id that the caller asks for, where it is fit for one."""
    return asked.decode() if asked and _ALLOWED.fullmatch(asked) else os.urandom(16).hex()
