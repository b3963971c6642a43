# SPDX-License-Identifier: Apache-2.0
"""Peers that send the same requests to an engine with more options: `cache`, or one of four LoRAs."""

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from diffusion_engine.weights import load_pipeline

from benchmarks.engine.engine_processes import EngineProcesses
from benchmarks.engine.job import Job
from benchmarks.engine.loras import NUM_LORAS, save_random_lora
from benchmarks.engine.outcome import Outcome
from benchmarks.engine.peer import CACHED, FOUR_LORAS, ONE_LORA_AT_A_TIME
from benchmarks.engine.stock_pipeline import Weights

PUBLISHED_CACHE = 0.8


class CachedEngine(EngineProcesses):
    """Each request has the `cache` whose quality benchmarks/engine/README.md states."""

    def __init__(self, weights: Weights, *, max_rows: int) -> None:
        super().__init__(CACHED, weights, max_rows=max_rows, count=1, num_threads=torch.get_num_threads())

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        return super().run([replace(job, options={"cache": PUBLISHED_CACHE}) for job in jobs])


class FourLoRAs(EngineProcesses):
    """The requests name four LoRAs in turn."""

    def __init__(self, weights: Weights, *, max_rows: int, name: str = FOUR_LORAS) -> None:
        with tempfile.TemporaryDirectory() as folder:
            self._names = write_loras(Path(folder), weights)
            super().__init__(
                name,
                replace(weights, loras=folder),
                max_rows=max_rows,
                count=1,
                num_threads=torch.get_num_threads(),
            )
            # Each LoRA is loaded while its file is there.
            self.run([Job(index=index, arrival=0, num_steps=2) for index in range(2 * NUM_LORAS)])

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        return super().run([replace(job, options=self._options(job)) for job in jobs])

    def _options(self, job: Job) -> Mapping[str, bytes | float]:
        loras = [{"name": self._names[job.index % NUM_LORAS], "scale": 0.8}]
        return {"loras": json.dumps(loras).encode()}


class OneLoRAAtATime(FourLoRAs):
    """Serves all requests of one LoRA before those of the next, like a server that holds one at a time."""

    def __init__(self, weights: Weights, *, max_rows: int) -> None:
        super().__init__(weights, max_rows=max_rows, name=ONE_LORA_AT_A_TIME)

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        started, outcomes = time.monotonic(), []
        for lora in range(NUM_LORAS):
            waited = time.monotonic() - started
            own = [job for job in jobs if job.index % NUM_LORAS == lora]
            served = super().run([sooner(job, waited) for job in own])
            outcomes += [later(outcome, waited, job) for outcome, job in zip(served, own, strict=True)]
        return outcomes


def write_loras(folder: Path, weights: Weights) -> list[str]:
    """Write LoRAs with random weights, and return their names."""
    unet = load_pipeline(weights.config(device="cpu")).unet
    names = [f"random-{number}" for number in range(NUM_LORAS)]
    for number, name in enumerate(names):
        save_random_lora(folder / f"{name}.safetensors", unet, seed=number)
    return names


def sooner(job: Job, seconds: float) -> Job:
    """The job in a trace that begins this much later: its client disconnects sooner."""
    return job if job.leaves_after is None else replace(job, leaves_after=max(0.0, job.leaves_after - seconds))


def later(outcome: Outcome, seconds: float, job: Job) -> Outcome:
    """The outcome of a job that waited before its trace began."""
    first = outcome.first_preview
    return replace(
        outcome, job=job, ended=outcome.ended + seconds, first_preview=None if first is None else first + seconds
    )
