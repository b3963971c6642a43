# SPDX-License-Identifier: Apache-2.0
"""The machine's current speed: the time of a guided request's pass. It normalises all other times."""

import logging
import statistics
import time

from diffusion_engine.denoiser import Denoiser
from diffusion_engine.encoder import Encoder
from diffusion_engine.networks import Networks
from diffusion_engine.noise_scheduler import NoiseSchedulers
from diffusion_engine.request_parser import RowValues, parse_request
from diffusion_engine.request_state import BatchKey, NullListener, RequestState
from diffusion_engine.scribble import read_scribble

from benchmarks.engine.job import ServiceTime, scribble_file
from benchmarks.engine.stock_pipeline import StockPipeline

logger = logging.getLogger(__name__)

NUM_PASSES = 12


class SpeedProbe:
    """Times passes of the networks alone, on the calling thread."""

    def __init__(self, stock: StockPipeline, networks: Networks | None = None) -> None:
        self.networks = networks or stock.networks
        self._capabilities = stock.capabilities
        config = stock.pipeline.scheduler.config
        schedulers = NoiseSchedulers(config)
        self.encoder = Encoder(self.networks, schedulers)
        self.denoiser = Denoiser(self.networks)

    def seconds(self, num_requests: int = 1) -> float:
        """The median time of a pass of `num_requests` guided requests."""
        states = [self.make_state() for _ in range(num_requests)]
        for state in states:
            state.encoded = self.encoder.encode(state)
        self.denoiser.predict(states)
        return statistics.median(self._timed(states) for _ in range(NUM_PASSES))

    def make_state(self, prompt: str = "a red house") -> RequestState:
        """A request for the measurement."""
        defaults = self._capabilities.defaults
        values: RowValues = {"prompt": prompt.encode(), "width": defaults.width, "height": defaults.height, "seed": 0}
        scribble = read_scribble(scribble_file(0), max_pixels=1_000_000, invert="auto")
        return RequestState(
            request=parse_request(values, self._capabilities),
            listener=NullListener(),
            arrived=0.0,
            key=BatchKey(defaults.width, defaults.height),
            control_image=scribble.fit(defaults.width, defaults.height),
        )

    def _timed(self, states: list[RequestState]) -> float:
        started = time.perf_counter()
        for noise in self.denoiser.predict(states):
            noise.cpu()  # waits for a GPU
        return time.perf_counter() - started


def calibrate(stock: StockPipeline, probe: SpeedProbe) -> tuple[float, ServiceTime]:
    """The probe's time that counts as pace 1, and the stock pipeline's time for a request at that pace."""
    stock.warm_up()
    before = probe.seconds()
    service = stock.service_time()
    reference = min(before, probe.seconds())
    logger.info(
        "a guided request's pass: %.1f ms; stock pipeline: %.0f ms and %.1f ms a step",
        1000 * reference,
        1000 * service.fixed_s,
        1000 * service.per_step_s,
    )
    return reference, service
