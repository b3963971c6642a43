# SPDX-License-Identifier: Apache-2.0
"""Forecasts the networks' prediction in cached steps, from the request's earlier predictions."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import torch

from diffusion_engine.cached_steps import cached_steps
from diffusion_engine.request_state import RequestState

# The part of the last change that goes on. More is closer for `euler`, but not for schedulers that extrapolate
# themselves or add noise, nor in several cached steps in a row.
CONTINUATION = 0.2


@dataclass(slots=True)
class StepCache:
    """The cached steps of one request, and its last predictions.

    It forecasts the clean latents, because they change slowly, whatever the networks predict and whatever noise the
    scheduler adds.
    """

    cached_steps: frozenset[int]
    _clean: list[torch.Tensor] = field(default_factory=list)  # of the last two passes, (1, 4, h, w) in fp32

    @classmethod
    def of(cls, state: RequestState, texts: Sequence[Sequence[Any]]) -> Self | None:
        """None if all steps need a pass. `state.num_steps` must be known; `texts` are of each row, for each step."""
        steps = range(1, state.num_steps)
        cached = cached_steps(state, [step for step in steps if any(row[step] is not row[step - 1] for row in texts)])
        return cls(cached) if cached else None

    @torch.inference_mode()
    def note(self, state: RequestState, noise_pred: torch.Tensor) -> None:
        """Remember the prediction of a pass, before its step."""
        encoded = state.encoded
        self._clean = [*self._clean[-1:], encoded.schedule.clean(noise_pred, encoded.latents, state.step_index)]

    @torch.inference_mode()
    def forecast(self, state: RequestState) -> torch.Tensor:
        """The networks' prediction, (1, 4, h, w), in a step without a pass."""
        encoded = state.encoded
        older, newer = self._clean
        clean = newer + CONTINUATION * (newer - older)
        prediction: torch.Tensor = encoded.schedule.noise_pred(clean, encoded.latents, state.step_index)
        return prediction
