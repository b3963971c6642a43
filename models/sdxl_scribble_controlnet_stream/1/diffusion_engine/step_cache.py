# SPDX-License-Identifier: Apache-2.0
"""Forecasts the network's prediction in cached steps, from the request's earlier predictions."""

import math
from dataclasses import dataclass, field
from typing import Self

import torch

from diffusion_engine.cached_steps import cached_steps
from diffusion_engine.request_state import RequestState


@dataclass(frozen=True, slots=True)
class Prediction:
    """A prediction of the networks: at a noise level, these clean latents."""

    log_noise: float
    clean: torch.Tensor  # (1, 4, h, w), in fp32


@dataclass(slots=True)
class StepCache:
    """The cached steps of one request, and its last two predictions.

    It forecasts the clean latents, because they change slowly, whatever the networks predict and whatever noise the
    scheduler adds. Their change halves from step to step.
    """

    cached_steps: frozenset[int]
    _last: list[Prediction] = field(default_factory=list)

    @classmethod
    def of(cls, state: RequestState) -> Self | None:
        """None if all steps need a pass. `state.num_steps` must be known."""
        cached = cached_steps(state)
        return cls(cached) if cached else None

    @torch.inference_mode()
    def note(self, state: RequestState, noise_pred: torch.Tensor) -> None:
        """Remember the prediction of a step that had a pass, before the step."""
        encoded, step = state.encoded, state.step_index
        clean = encoded.schedule.clean(noise_pred, encoded.latents, step)
        self._last = [*self._last[-1:], Prediction(math.log(encoded.schedule.noise_level(step)), clean)]

    @torch.inference_mode()
    def forecast(self, state: RequestState) -> torch.Tensor:
        """The network's prediction, (1, 4, h, w), in a step without a pass."""
        encoded, step = state.encoded, state.step_index
        older, newer = self._last
        since = newer.log_noise - math.log(encoded.schedule.noise_level(step))
        distance = since / (older.log_noise - newer.log_noise)  # 1: as far as these two are apart
        clean = newer.clean + (1 - 0.5**distance) * (newer.clean - older.clean)
        prediction: torch.Tensor = encoded.schedule.noise_pred(clean, encoded.latents, step)
        return prediction
