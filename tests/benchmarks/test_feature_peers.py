# SPDX-License-Identifier: Apache-2.0
"""The peers with LoRAs and cached steps send the same requests, with their options, in the order that they say."""

import json
from collections.abc import Sequence

import pytest

from benchmarks.engine.engine_processes import EngineProcesses
from benchmarks.engine.feature_peers import CachedEngine, FourLoRAs, OneLoRAAtATime
from benchmarks.engine.job import Job
from benchmarks.engine.outcome import Outcome
from benchmarks.engine.peer import CACHED
from benchmarks.engine.stock_pipeline import Weights

JOBS = [Job(index=index, arrival=0.0, num_steps=4) for index in range(8)]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[list[Job]]:
    """The jobs of each run of the engine's process, which is not started."""
    recorded: list[list[Job]] = []

    def start(self: EngineProcesses, name: str, weights: Weights, **options: int) -> None:
        self.name = name

    def run(self: EngineProcesses, jobs: Sequence[Job]) -> list[Outcome]:
        recorded.append(list(jobs))
        return [Outcome(job=job, ended=1.0, first_preview=0.5) for job in jobs]

    monkeypatch.setattr(EngineProcesses, "__init__", start)
    monkeypatch.setattr(EngineProcesses, "run", run)
    monkeypatch.setattr("benchmarks.engine.feature_peers.write_loras", lambda *_, **__: ["a", "b", "c", "d"])
    return recorded


def loras_of(jobs: Sequence[Job]) -> list[str]:
    return [json.loads(str(job.options["loras"], "utf-8"))[0]["name"] for job in jobs]  # type: ignore[arg-type]


def test_each_request_is_cached(runs: list[list[Job]]) -> None:
    peer = CachedEngine(Weights(), max_rows=8)
    peer.run(JOBS)
    assert peer.name == CACHED
    assert {job.options["cache"] for job in runs[0]} == {0.8}


def test_requests_name_four_loras_in_turn(runs: list[list[Job]]) -> None:
    FourLoRAs(Weights(), max_rows=8).run(JOBS)
    assert loras_of(runs[-1]) == ["a", "b", "c", "d", "a", "b", "c", "d"]


def test_one_lora_runs_after_another_and_all_outcomes_count_from_the_start(runs: list[list[Job]]) -> None:
    peer = OneLoRAAtATime(Weights(), max_rows=8)
    runs.clear()
    outcomes = peer.run(JOBS)
    assert [set(loras_of(jobs)) for jobs in runs] == [{"a"}, {"b"}, {"c"}, {"d"}]
    assert sorted(outcome.job.index for outcome in outcomes) == list(range(8))
    assert all(not outcome.job.options for outcome in outcomes)
    assert all(later.ended >= 1.0 for later in outcomes)
