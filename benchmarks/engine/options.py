# SPDX-License-Identifier: Apache-2.0
"""The options of a benchmark run."""

from dataclasses import dataclass, field

from benchmarks.engine.stock_pipeline import Weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The defaults take over an hour on 2 cores with the demo checkpoint. With 32 and 16 jobs they take half of it."""

    weights: Weights = field(default_factory=Weights)
    repeats: int = 5
    minutes: float = 0.0  # no repeat starts that would end later; 0: no limit
    saturated_jobs: int = 64
    loaded_jobs: int = 40
    letters: str = ""  # letters of the peers; empty: the usual ones
    workloads: str = ""
    seed: int = 0
    threads: int = 0
    max_rows: int = 0  # rows of an engine's pass; 0: measured, as by the engine
    name: str = ""
    command: str = ""
