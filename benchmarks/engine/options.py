# SPDX-License-Identifier: Apache-2.0
"""What to measure, and how long."""

from dataclasses import dataclass, field

from benchmarks.engine.stock_pipeline import Weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The defaults take more than an hour on 2 cores with the demo checkpoint; 32 and 16 jobs, half of that."""

    weights: Weights = field(default_factory=Weights)
    repeats: int = 5
    minutes: float = 0.0  # no repeat begins that would not be done by then; 0: all are made
    saturated_jobs: int = 64
    loaded_jobs: int = 40
    letters: str = ""  # which peers; empty: the usual ones
    workloads: str = ""
    seed: int = 0
    threads: int = 0
    max_rows: int = 0  # of an engine's pass; 0: measured, as the engine does itself
    name: str = ""
    command: str = ""
