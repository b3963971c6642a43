# SPDX-License-Identifier: Apache-2.0
"""Runs one step of several requests: a pass of the networks, then each request's noise scheduler and cached steps.

If a pass fails, each of its requests is retried alone, once. If memory runs out, half of them wait for later steps.
"""

import logging
from collections.abc import Callable
from functools import partial

import torch

from diffusion_engine.denoiser import Denoiser
from diffusion_engine.errors import RequestError, attempt, is_out_of_memory
from diffusion_engine.noise_scheduler import NoiseSchedulers
from diffusion_engine.request_state import RequestState
from diffusion_engine.row_limits import RowLimits
from diffusion_engine.step_cache import StepCache

logger = logging.getLogger(__name__)


class PassRunner:
    """For the engine's thread only.

    Args:
        evict: called with each request that fails.
        abandon: called with the requests of a pass that ended early, since nobody waits for them. The step scheduler
            drops them.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        noise_scheduler: NoiseSchedulers,
        row_limits: RowLimits,
        *,
        evict: Callable[[RequestState, RequestError], None],
        abandon: Callable[[list[RequestState]], None],
    ) -> None:
        self._denoiser = denoiser
        self._noise_scheduler = noise_scheduler
        self._row_limits = row_limits
        self._evict = evict
        self._abandon = abandon

    def run(self, states: list[RequestState]) -> list[RequestState]:
        """Advance the requests by one step. Returns those that advanced: fewer if some failed or have to wait."""
        return self._advance(*self._predict(states))

    def _predict(self, states: list[RequestState]) -> tuple[list[RequestState], list[torch.Tensor]]:
        """One pass for all requests. If it fails, each is retried alone, once, and evicted if it fails again."""
        if not states:
            return [], []
        try:
            noise = self._denoiser.predict(states)
        except Exception as error:
            needs_memory = is_out_of_memory(error)
            if not needs_memory:
                logger.warning("a pass of %d requests failed; each is retried alone", len(states), exc_info=True)
        else:
            if not noise:
                self._abandon(states)
            return states[: len(noise)], noise
        # Not in the handler: the exception keeps the tensors of the failed pass.
        self._denoiser.clear_cache()
        if needs_memory and len(states) > 1:
            return self._predict_fewer(states)
        return self._predict_alone(states)

    def _predict_alone(self, states: list[RequestState]) -> tuple[list[RequestState], list[torch.Tensor]]:
        survivors: list[RequestState] = []
        noise: list[torch.Tensor] = []
        for state in states:
            predicted = attempt(partial(self._denoiser.predict, [state]))
            if isinstance(predicted, RequestError):
                self._evict(state, predicted)
            elif not predicted:
                self._abandon([state])
            else:
                survivors.append(state)
                noise += predicted
        return survivors, noise

    def _predict_fewer(self, states: list[RequestState]) -> tuple[list[RequestState], list[torch.Tensor]]:
        """After running out of memory: run half of the requests now, the others in later steps."""
        torch.cuda.empty_cache()
        self._row_limits.shed(states[0].key, below=sum(each.num_rows for each in states))
        return self._predict(states[: len(states) // 2])

    def _advance(self, states: list[RequestState], noise: list[torch.Tensor]) -> list[RequestState]:
        """Each request's steps until it needs the next pass. If one fails, only its request is evicted."""
        advanced = []
        for state, noise_pred in zip(states, noise, strict=True):
            state.encoded.last_input, state.encoded.last_pass = state.encoded.latents, state.step_index
            error = attempt(partial(self._step, state, noise_pred))
            if error is None:
                advanced.append(state)
            else:
                self._evict(state, error)
        return advanced

    def _step(self, state: RequestState, noise_pred: torch.Tensor) -> None:
        """A step with the predicted noise, and the cached steps after it."""
        cache: StepCache | None = state.encoded.step_cache
        if cache is None:
            self._noise_scheduler.advance(state, noise_pred)
            return
        cache.note(state, noise_pred)
        self._noise_scheduler.advance(state, noise_pred)
        while state.step_index in cache.cached_steps:
            self._noise_scheduler.advance(state, cache.forecast(state))
            state.num_cached_steps += 1
