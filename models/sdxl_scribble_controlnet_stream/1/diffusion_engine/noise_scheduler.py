# SPDX-License-Identifier: Apache-2.0
"""Noise schedulers of diffusers: each request has its own scheduler, timestep and generator."""

import copy
import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import diffusers
import torch

from diffusion_engine.request import DiffusionRequest
from diffusion_engine.request_state import RequestState
from diffusion_engine.scheduler_kinds import SCHEDULER_KINDS


def make_noise_scheduler(
    name: str, checkpoint_config: Mapping[str, Any], *, timestep_spacing: str | None = None
) -> Any:
    """A scheduler with the checkpoint's betas, prediction type and, unless another is given, spacing."""
    kind = SCHEDULER_KINDS[name]
    spacing = {} if timestep_spacing is None else {"timestep_spacing": timestep_spacing}
    return getattr(diffusers, kind.class_name).from_config(checkpoint_config, **kind.config, **spacing)


@dataclass(frozen=True, slots=True)
class StepResult:
    """The result of one step of one request."""

    latents: torch.Tensor  # (1, 4, h, w)
    predicted_clean: torch.Tensor  # (1, 4, h, w), the latents without all remaining noise, for previews


class NoiseSchedule:
    """The steps of one request, from noise to picture.

    Args:
        strength: the last part of the steps that is made, as in diffusers' image-to-image pipelines.
        eta: for schedulers that have it.
        seed: of a scheduler whose noise does not come from the generator.
    """

    def __init__(
        self, scheduler: Any, num_steps: int, *, strength: float = 1.0, eta: float | None = None, seed: int = 0
    ) -> None:
        self._scheduler = _copied(scheduler)
        self._eta = eta
        self._seed = seed
        # The timesteps stay on the CPU: schedulers read their values, which would wait for a GPU.
        self._scheduler.set_timesteps(num_steps)
        num_omitted = max(0, num_steps - min(int(num_steps * strength), num_steps))
        first = num_omitted * self._scheduler.order
        if hasattr(self._scheduler, "set_begin_index"):  # without it, the first step searches for its index
            self._scheduler.set_begin_index(first)
        self._first = first
        self.timesteps: list[torch.Tensor] = list(self._scheduler.timesteps[first:])

    @property
    def num_steps(self) -> int:
        """The number of passes: with `order` 2, two for each step but the last."""
        return len(self.timesteps)

    @property
    def order(self) -> int:
        """1, or 2 for schedulers that predict the noise twice in each step: first at its start, then further on."""
        return int(self._scheduler.order)

    @property
    def init_noise_sigma(self) -> Any:
        return self._scheduler.init_noise_sigma

    def scale(self, latents: torch.Tensor, step_index: int) -> torch.Tensor:
        """The latents scaled for the networks' input at this step, (1, 4, h, w)."""
        scaled: torch.Tensor = self._scheduler.scale_model_input(latents, self.timesteps[step_index])
        return scaled

    def add_noise(self, clean: torch.Tensor, noise: torch.Tensor, step_index: int) -> torch.Tensor:
        """Clean latents with as much noise as those before this step, which must be the next one."""
        noisy: torch.Tensor = self._scheduler.add_noise(clean, noise, self.timesteps[step_index].reshape(1))
        return noisy

    def clean(self, noise_pred: torch.Tensor, latents: torch.Tensor, step_index: int) -> torch.Tensor:
        """The latents without all noise, (1, 4, h, w) in fp32, from the network's prediction of any type."""
        scaled, prediction = self.scale(latents, step_index).float(), noise_pred.float()
        signal, noise = self._shares(step_index)
        match self._scheduler.config.prediction_type:
            case "epsilon":
                return (scaled - noise * prediction) / signal
            case "v_prediction":
                return signal * scaled - noise * prediction
        return prediction  # "sample"

    def noise_pred(self, clean: torch.Tensor, latents: torch.Tensor, step_index: int) -> torch.Tensor:
        """The network's prediction that means these clean latents: the inverse of `clean`."""
        scaled = self.scale(latents, step_index).float()
        signal, noise = self._shares(step_index)
        match self._scheduler.config.prediction_type:
            case "epsilon":
                prediction = (scaled - signal * clean) / noise
            case "v_prediction":
                prediction = (signal * scaled - clean) / noise
            case _:
                prediction = clean
        return prediction.to(latents.dtype)

    def _shares(self, step_index: int) -> tuple[float, float]:
        """The shares of picture and noise in the networks' input. Their squares add up to 1."""
        if hasattr(self._scheduler, "sigmas"):
            variance = 1 / (1 + float(self._scheduler.sigmas[self._first + step_index]) ** 2)
        else:
            variance = max(float(self._scheduler.alphas_cumprod[int(self.timesteps[step_index])]), 2**-24)
        return math.sqrt(variance), math.sqrt(1 - variance)

    def step(
        self, noise_pred: torch.Tensor, latents: torch.Tensor, step_index: int, generator: torch.Generator
    ) -> StepResult:
        """Compute the latents of the next step. Random noise comes from the request's own generator, or its seed."""
        if isinstance(self._scheduler, diffusers.DPMSolverSDEScheduler) and self._scheduler.noise_sampler is None:
            self._scheduler.noise_sampler = _BrownianNoise(latents, self._scheduler.sigmas, self._seed)
        options = {"generator": generator} | ({} if self._eta is None else {"eta": self._eta})
        taken = _options_of_step(self._scheduler.__class__)
        timestep = self.timesteps[step_index]
        stepped = self._scheduler.step(
            noise_pred,
            timestep,
            latents,
            **{name: value for name, value in options.items() if name in taken},
            return_dict=False,
        )
        return StepResult(stepped[0], self._predicted_clean(stepped, noise_pred, latents, timestep))

    def _predicted_clean(
        self, stepped: tuple[torch.Tensor, ...], noise_pred: torch.Tensor, latents: torch.Tensor, timestep: torch.Tensor
    ) -> torch.Tensor:
        scheduler = self._scheduler
        if isinstance(scheduler, diffusers.TCDScheduler):  # it returns latents that still have noise
            signal = scheduler.alphas_cumprod[timestep].sqrt()
            noise = (1 - scheduler.alphas_cumprod[timestep]).sqrt()
            is_velocity = scheduler.config.prediction_type == "v_prediction"
            clean = signal * latents - noise * noise_pred if is_velocity else (latents - noise * noise_pred) / signal
        else:  # multistep schedulers return no clean prediction, but keep it as the newest of their history
            clean = stepped[1] if len(stepped) > 1 else scheduler.model_outputs[-1]
        predicted: torch.Tensor = clean
        return predicted


class _BrownianNoise:
    """The noise of `DPMSolverSDEScheduler` for a seed. It is drawn on the CPU, so it is the same on every device."""

    def __init__(self, latents: torch.Tensor, sigmas: torch.Tensor, seed: int) -> None:
        # Not at the top: it needs torchsde, which only this scheduler needs.
        from diffusers.schedulers.scheduling_dpmsolver_sde import BrownianTreeNoiseSampler

        self._latents_like = latents.new_empty(0)  # has their device and dtype
        self._range = sigmas[sigmas > 0].min().item(), sigmas.max().item()
        self._sampler = BrownianTreeNoiseSampler(torch.zeros(latents.shape), *self._range, seed)

    def __call__(self, sigma: torch.Tensor, sigma_next: torch.Tensor) -> torch.Tensor:
        # The scheduler's rounding may leave the range a little, of which torchsde warns.
        noise: torch.Tensor = self._sampler(sigma.clamp(*self._range), sigma_next.clamp(*self._range))
        return noise.to(self._latents_like, non_blocking=True)


def _copied(scheduler: Any) -> Any:
    """A copy of a prepared scheduler, because its constructor takes up to 40 ms. `set_timesteps` resets most state."""
    copied = copy.copy(scheduler)
    for name, value in vars(scheduler).items():
        if isinstance(value, list):  # such as the history of UniPC, which `set_timesteps` keeps
            setattr(copied, name, list(value))
    return copied


@cache
def _options_of_step(scheduler_class: Any) -> frozenset[str]:
    return frozenset(inspect.signature(scheduler_class.step).parameters)


class NoiseSchedulers:
    """Prepared schedulers by name and timestep spacing. Makes and advances the schedule of each request."""

    def __init__(self, checkpoint_config: Mapping[str, Any]) -> None:
        self._checkpoint_config = checkpoint_config
        self._prepared: dict[tuple[str, str | None], Any] = {}

    def schedule(self, request: DiffusionRequest) -> NoiseSchedule:
        """A new schedule, for one request."""
        key = (request.scheduler, request.timestep_spacing)
        if key not in self._prepared:
            self._prepared[key] = make_noise_scheduler(key[0], self._checkpoint_config, timestep_spacing=key[1])
        return NoiseSchedule(
            self._prepared[key],
            request.num_inference_steps,
            strength=1.0 if request.strength is None else request.strength,
            eta=request.eta,
            seed=request.seed,
        )

    @torch.inference_mode()
    def advance(self, state: RequestState, noise_pred: torch.Tensor) -> None:
        """Advance a request by one step with its predicted noise, (1, 4, h, w)."""
        encoded = state.encoded
        result = encoded.schedule.step(noise_pred, encoded.latents, state.step_index, encoded.generator)
        state.step_index += 1
        if encoded.kept is not None:
            result = encoded.kept.restore(result, encoded.schedule, state.step_index)
        encoded.latents = result.latents
        encoded.predicted_clean = result.predicted_clean
