# SPDX-License-Identifier: Apache-2.0
"""What a connection may take of a server: time and room, as `http_protocol.py` holds callers to it."""

import functools
from dataclasses import dataclass
from typing import Self

from fastapi_triton.core.settings import Settings

# Where an app's limits are in the state that its lifespan shares with the server.
STATE = "connection_limits"


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Times in seconds."""

    head_s: float
    body_pause_s: float
    body_s: float
    idle_s: float
    max_connections: int
    max_buffered_body_bytes: int

    @property
    def interval_s(self) -> float:
        """How often connections are looked at: how much later than said a time may end."""
        return min(1.0, self.head_s / 4, self.body_pause_s / 4, self.body_s / 4, self.idle_s / 4)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """As the settings say."""
        return cls(
            settings.head_timeout_s,
            settings.body_pause_timeout_s,
            settings.body_timeout_s,
            settings.idle_timeout_s,
            settings.max_connections,
            settings.max_buffered_body_bytes,
        )


@functools.cache
def from_environment() -> ConnectionLimits:
    """For an app that has no settings of ours."""
    return ConnectionLimits.of(Settings())
