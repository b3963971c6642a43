# SPDX-License-Identifier: Apache-2.0
"""Where the engine's thread spends its time: in the networks, by which one, and in everything else."""

import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from diffusion_engine.engine import Engine
from diffusion_engine.networks import Networks

DENOISING = "UNet and ControlNet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Seconds of the engine's thread, and how many passes it made. Idle time is in none of them."""

    in_steps: float
    by_network: Mapping[str, float]
    num_steps: int
    full_steps: float  # the part of `in_steps` that was spent in steps with all rows taken
    full_networks: float  # and of that, in any network

    @property
    def overhead(self) -> float:
        """Of steps with all rows taken, the part that is in no network."""
        return 1 - self.full_networks / self.full_steps if self.full_steps else float("nan")


class Ledger:
    """Listens to the networks and to `Engine.step` of one engine."""

    def __init__(self, engine: Engine, networks: Networks, *, max_rows: int) -> None:
        self._engine = engine
        self._step = engine.step
        self._max_rows = max_rows
        self._started: dict[str, float] = {}
        self._lock = threading.Lock()
        self._pass_began: float | None = None
        self._pass_ended = 0.0
        pipeline = networks.pipeline
        self._watched: dict[str, Any] = {
            "control embedding": networks.control_embedding,
            "text encoder": pipeline.text_encoder,
            "text encoder 2": pipeline.text_encoder_2,
            "vae": networks.vae.decoder,
        }
        for name, network in self._watched.items():
            network.register_forward_pre_hook(lambda *_, name=name: self._enter(name))
            network.register_forward_hook(lambda *_, name=name: self._leave(name))
        for network in (networks.unet, networks.controlnet):
            network.register_forward_pre_hook(lambda *_: self._begin_pass())
            network.register_forward_hook(lambda *_: self._end_pass())
        self.reset()
        engine.step = self._timed_step  # type: ignore[method-assign]

    def reset(self) -> None:
        self._by_network: dict[str, float] = defaultdict(float)
        self._in_steps = self._full_steps = self._full_networks = 0.0
        self._num_steps = 0

    def account(self) -> Account:
        return Account(
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

    def _begin_pass(self) -> None:
        with self._lock:
            self._pass_began = self._pass_began or time.perf_counter()

    def _end_pass(self) -> None:
        with self._lock:
            self._pass_ended = time.perf_counter()

    def _timed_step(self) -> bool:
        rows_before, networks = self._rows(), sum(self._by_network.values())
        self._pass_began = None
        started = time.perf_counter()
        is_busy = self._step()
        duration = time.perf_counter() - started
        num_rows = self._rows() - rows_before
        if num_rows and self._pass_began is not None:
            # From the first network's start to the last one's end, on whichever threads they ran.
            self._by_network[DENOISING] += self._pass_ended - self._pass_began
            self._num_steps += 1
            self._in_steps += duration
        if num_rows >= self._max_rows:
            self._full_steps += duration
            self._full_networks += sum(self._by_network.values()) - networks
        return is_busy

    def _rows(self) -> float:
        defaults = self._engine.capabilities.defaults
        return self._engine.metrics.value("sdxl_engine_rows_total", size=f"{defaults.width}x{defaults.height}")
