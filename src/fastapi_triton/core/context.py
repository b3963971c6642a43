# SPDX-License-Identifier: Apache-2.0
"""Context variables of the current request: caller, deadline and id."""

import os
import re
import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal

REQUEST_ID_HEADER = "X-Request-ID"
REQUEST_ID_NAME = REQUEST_ID_HEADER.lower().encode()
# Request ids that a client may choose. They are written into logs and headers.
_ALLOWED_ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")

Priority = Literal["interactive", "batch"]


@dataclass(frozen=True, slots=True)
class Caller:
    """The identity that limits and jobs belong to: the owner of an API key, or an IP address.

    Args:
        name: `key:<name of the key>` or `address:<IP address>`. It contains nothing secret.
        scopes: what the caller may do. None: everything, if there are no keys.
        max_in_flight: the caller's own limit of requests, running and waiting, over all models.
        priority: batch requests wait for interactive ones, within bounds.
    """

    name: str
    scopes: frozenset[str] | None = field(default=None)
    max_in_flight: int | None = None
    priority: Priority = "interactive"


ANYONE = Caller("address:")

# Set by the authentication middleware before any code takes a slot.
current_caller: ContextVar[Caller] = ContextVar("current_caller", default=ANYONE)
# In `time.monotonic()` seconds. Every wait of a request ends by then. None: no deadline.
current_deadline: ContextVar[float | None] = ContextVar("current_deadline", default=None)
current_request_id: ContextVar[str] = ContextVar("current_request_id", default="")


def remaining_s(limit_s: float) -> float:
    """Seconds until the request's deadline, at most `limit_s`. Negative after the deadline."""
    deadline = current_deadline.get()
    return limit_s if deadline is None else min(limit_s, deadline - time.monotonic())


def choose_request_id(wanted: bytes) -> str:
    """The client's id if it is valid, else a new one. It is logged, and sent to Triton and the client."""
    return wanted.decode() if wanted and _ALLOWED_ID.fullmatch(wanted) else os.urandom(16).hex()
