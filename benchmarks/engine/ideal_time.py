# SPDX-License-Identifier: Apache-2.0
"""A lower bound for the engine: the time of the networks alone for the same jobs, if every pass is full."""

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from diffusion_engine.vae_decoder import VAEDecoder

from benchmarks.engine.job import Job
from benchmarks.engine.machine_speed import SpeedProbe
from benchmarks.engine.stock_pipeline import StockPipeline

NUM_REPEATS = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class IdealTime:
    """Seconds, at the reference pace."""

    per_step: float  # a guided request's share of a full pass
    per_picture: float  # text encoders, control embedding and VAE

    def of(self, jobs: Iterable[Job], *, steps_before_leaving: int = 0) -> float:
        """The time of all jobs whose clients stay connected, and of the steps for others until they disconnected."""
        staying = [job for job in jobs if job.stays]
        num_steps = sum(job.num_steps for job in staying) + steps_before_leaving
        return num_steps * self.per_step + len(staying) * self.per_picture


def measure_ideal_time(stock: StockPipeline, probe: SpeedProbe, *, max_rows: int) -> IdealTime:
    num_requests = max(1, max_rows // 2)
    state = probe.make_state()
    encoded = probe.encoder.encode(state)
    decoder, parallel = VAEDecoder(stock.networks), probe.denoiser.cpu_parallel
    decode = partial(decoder.decode, encoded.latents)
    numbers = iter(range(1_000_000))

    def read_texts() -> None:
        """Encode the texts of a full pass. They are new, so that no cache helps."""
        states = [probe.make_state(f"a new text, number {next(numbers)}") for _ in range(num_requests)]
        probe.encoder.text_encoder.read_texts(states)

    return IdealTime(
        per_step=probe.seconds(num_requests) / num_requests,
        per_picture=(
            _median(read_texts) / num_requests
            + _median(lambda: probe.encoder.encode(state))
            + _median(lambda: parallel.run([decode] * parallel.size)) / parallel.size
        ),
    )


def _median(work: Callable[[], object]) -> float:
    def timed() -> float:
        started = time.perf_counter()
        work()
        return time.perf_counter() - started

    timed()
    return statistics.median(timed() for _ in range(NUM_REPEATS))
