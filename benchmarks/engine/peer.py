# SPDX-License-Identifier: Apache-2.0
"""The interface of a peer, which serves the jobs of a trace, and the names of the usual peers."""

from collections.abc import Sequence
from typing import Protocol

from benchmarks.engine.engine_profiler import EngineProfile
from benchmarks.engine.job import Job
from benchmarks.engine.outcome import Outcome

ONE_AT_A_TIME = "(a) one at a time"
WHOLE_BATCHES = "(b) whole-request batches"
TWO_PROCESSES = "(c) two processes"
ENGINE = "engine"
SERVED = "engine through Triton and frontend"
CACHED = "engine, cache 0.8"
FOUR_LORAS = "engine, four LoRAs at once"
ONE_LORA_AT_A_TIME = "engine, four LoRAs, one after another"
# Their requests have more options. They serve only the requests that arrive all at once.
FEATURES = (CACHED, FOUR_LORAS, ONE_LORA_AT_A_TIME)
# The engines that an engine is compared with, besides the stock pipeline.
COMPARED = {
    SERVED: (ENGINE,),
    CACHED: (ENGINE,),
    FOUR_LORAS: (ENGINE, ONE_LORA_AT_A_TIME),
    ONE_LORA_AT_A_TIME: (ENGINE,),
}


class Peer(Protocol):
    """A peer of the comparison."""

    name: str

    def warm_up(self) -> None:
        """Run every shape of pass once."""

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Serve a trace, in order of arrival."""

    def profile(self) -> EngineProfile | None:
        """The profile of the last run; None if the peer is not an engine."""

    def close(self) -> None:
        """Stop threads and processes."""
