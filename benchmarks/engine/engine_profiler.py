# SPDX-License-Identifier: Apache-2.0
"""The time of the engine's thread in each network and outside them."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from diffusion_engine.engine import Engine
from diffusion_engine.networks import Networks

DENOISING = "UNet and ControlNet"
VAE = "vae"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineProfile:
    """Seconds of the engine's thread, without idle time, and the number of its passes."""

    in_steps: float
    by_network: Mapping[str, float]
    num_steps: int
    full_steps: float  # the part of `in_steps` in steps with all rows in use
    full_networks: float  # the part of `full_steps` in any network

    @property
    def overhead(self) -> float:
        """The share of time outside the networks, in steps with all rows in use."""
        return 1 - self.full_networks / self.full_steps if self.full_steps else float("nan")


class CallTimer:
    """Wraps a function, and measures the time in which at least one call of it runs, on any thread."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._lock = threading.Lock()
        self._num_running = 0
        self._began = 0.0
        self._taken = 0.0

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        with self._lock:
            if self._num_running == 0:
                self._began = time.perf_counter()
            self._num_running += 1
        try:
            return self._function(*arguments, **options)
        finally:
            with self._lock:
                self._num_running -= 1
                if self._num_running == 0:
                    self._taken += time.perf_counter() - self._began

    def take(self) -> float:
        """Seconds since the last call."""
        taken, self._taken = self._taken, 0.0
        return taken


class EngineProfiler:
    """Measures the networks and `Engine.step` of one engine."""

    def __init__(self, engine: Engine, networks: Networks, *, max_rows: int) -> None:
        self._engine = engine
        self._step = engine.step
        self._max_rows = max_rows
        self._started: dict[str, float] = {}
        pipeline = networks.pipeline
        self._watched: dict[str, Any] = {
            "control embedding": networks.control_embedding,
            "text encoder": pipeline.text_encoder,
            "text encoder 2": pipeline.text_encoder_2,
        }
        for name, network in self._watched.items():
            network.register_forward_pre_hook(lambda *_, name=name: self._enter(name))
            network.register_forward_hook(lambda *_, name=name: self._leave(name))
        self.reset()
        # The single passes, not the parallel ones as a whole: the time to split the work counts as the engine's.
        denoiser, decoder = engine.denoiser, engine.vae_decoder
        self._call_timers = {DENOISING: CallTimer(denoiser._pass), VAE: CallTimer(decoder.decode)}
        denoiser._pass = self._call_timers[DENOISING]  # type: ignore[method-assign]
        decoder.decode = self._call_timers[VAE]  # type: ignore[method-assign]
        engine.step = self._timed_step  # type: ignore[method-assign]

    def reset(self) -> None:
        self._by_network: dict[str, float] = defaultdict(float)
        self._in_steps = self._full_steps = self._full_networks = 0.0
        self._num_steps = 0

    def profile(self) -> EngineProfile:
        return EngineProfile(
            in_steps=self._in_steps,
            by_network=dict(self._by_network),
            num_steps=self._num_steps,
            full_steps=self._full_steps,
            full_networks=self._full_networks,
        )

    def _enter(self, name: str) -> None:
        if threading.current_thread().name == "engine":
            self._started[name] = time.perf_counter()

    def _leave(self, name: str) -> None:
        started = self._started.pop(name, None)
        if started is not None:
            self._by_network[name] += time.perf_counter() - started

    def _timed_step(self) -> bool:
        rows_before, networks = self._rows(), sum(self._by_network.values())
        started = time.perf_counter()
        is_busy = self._step()
        duration = time.perf_counter() - started
        for name, timer in self._call_timers.items():
            self._by_network[name] += timer.take()
        num_rows = self._rows() - rows_before
        if num_rows:
            self._num_steps += 1
            self._in_steps += duration
        if num_rows >= self._max_rows:
            self._full_steps += duration
            self._full_networks += sum(self._by_network.values()) - networks
        return is_busy

    def _rows(self) -> float:
        defaults = self._engine.capabilities.defaults
        return self._engine.metrics.value("sdxl_engine_rows_total", size=f"{defaults.width}x{defaults.height}")
