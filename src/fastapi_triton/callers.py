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
