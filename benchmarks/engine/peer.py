# SPDX-License-Identifier: Apache-2.0
"""The interface of a peer: one way to serve the jobs of a trace."""

from collections.abc import Sequence
from typing import Protocol

from benchmarks.engine.engine_profiler import EngineProfile
from benchmarks.engine.job import Job
from benchmarks.engine.outcome import Outcome


class Peer(Protocol):
    """One way of serving a trace."""

    name: str

    def warm_up(self) -> None:
        """Run every shape of pass once."""

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Serve a trace, in order of arrival."""

    def profile(self) -> EngineProfile | None:
        """Where the time of the last run went, of an engine."""

    def close(self) -> None:
        """Let go of threads and processes."""
