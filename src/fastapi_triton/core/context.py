# SPDX-License-Identifier: Apache-2.0
"""What belongs to the current request, as context variables: its caller, its deadline, its id."""

import os
import re
import time
from contextvars import ContextVar
from dataclasses import dataclass, field

REQUEST_ID_HEADER = "X-Request-ID"
REQUEST_ID_NAME = REQUEST_ID_HEADER.lower().encode()
# What a caller may choose as its request id: it ends up in logs and headers.
_ALLOWED_ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")


@dataclass(frozen=True, slots=True)
class Caller:
    """The owner of an API key, or an address. Slots, rate limits and jobs are shared out among callers.

    `name` is `key:<name of the key>` or `address:<IP address>`; it holds nothing secret. Requests with equal names are
    one caller's. `scopes` are what it may do; None: everything, as where no keys are asked for. `max_in_flight`, where
    it has one of its own, bounds its requests in flight and waiting, over all models.
    """

    name: str
    scopes: frozenset[str] | None = field(default=None)
    max_in_flight: int | None = None


ANYONE = Caller("address:")

# The authentication middleware sets it before anything asks for a slot.
current_caller: ContextVar[Caller] = ContextVar("current_caller", default=ANYONE)
# In `time.monotonic()` seconds. No wait on the request's way outlasts it. None: the request has no deadline.
current_deadline: ContextVar[float | None] = ContextVar("current_deadline", default=None)
current_request_id: ContextVar[str] = ContextVar("current_request_id", default="")


def remaining_s(limit_s: float) -> float:
    """How long may still be waited: until the request's deadline, and no longer than `limit_s`. Negative when late."""
    deadline = current_deadline.get()
    return limit_s if deadline is None else min(limit_s, deadline - time.monotonic())


def choose_request_id(asked: bytes) -> str:
    """The id that the caller asks for, if it is a valid one, else a new one. It goes to the log, to Triton and back."""
    return asked.decode() if asked and _ALLOWED_ID.fullmatch(asked) else os.urandom(16).hex()
