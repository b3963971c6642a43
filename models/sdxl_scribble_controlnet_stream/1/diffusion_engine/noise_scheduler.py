# SPDX-License-Identifier: Apache-2.0
"""Noise schedulers of diffusers: each request has its own scheduler, timestep and generator."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
)

from diffusion_engine.request_state import RequestState


def make_noise_scheduler(name: str, checkpoint_config: Mapping[str, Any]) -> Any:
    """A scheduler with the checkpoint's betas, prediction type and spacing. Only the solver differs by name."""
    if name == "euler":
        return EulerDiscreteScheduler.from_config(checkpoint_config)
    if name == "euler_ancestral":
        return EulerAncestralDiscreteScheduler.from_config(checkpoint_config)
    if name == "dpmpp_2m_karras":
        return DPMSolverMultistepScheduler.from_config(
            checkpoint_config, algorithm_type="dpmsolver++", solver_order=2, use_karras_sigmas=True
        )
    if name == "lcm":
        return LCMScheduler.from_config(checkpoint_config)
    raise ValueError(f"there is no scheduler {name!r}")


@dataclass(frozen=True, slots=True)
class StepResult:
    """The result of one step of one request."""

    latents: torch.Tensor  # (1, 4, h, w)
    predicted_clean: torch.Tensor  # (1, 4, h, w), the latents without all remaining noise, for previews


class NoiseSchedule:
    """The steps of one request, from noise to picture.

    Args:
        strength: the last part of the steps that is made, as in diffusers' image-to-image pipelines.
    """

    def __init__(self, scheduler: Any, num_steps: int, *, strength: float = 1.0) -> None:
        # A shallow copy of a prepared object, because the constructor takes 2 ms. `set_timesteps` replaces all state.
        self._scheduler = copy.copy(scheduler)
        # The timesteps stay on the CPU: schedulers read their values, which would wait for a GPU.
        self._scheduler.set_timesteps(num_steps)
        num_omitted = max(0, num_steps - min(int(num_steps * strength), num_steps))
        first = num_omitted * self._scheduler.order
        self._scheduler.set_begin_index(first)  # without it, the first step searches for its index
        self.timesteps: list[torch.Tensor] = list(self._scheduler.timesteps[first:])

    @property
    def num_steps(self) -> int:
        return len(self.timesteps)

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

    def step(
        self, noise_pred: torch.Tensor, latents: torch.Tensor, step_index: int, generator: torch.Generator
    ) -> StepResult:
        """Compute the latents of the next step. Random noise comes from the request's own generator."""
        stepped = self._scheduler.step(
            noise_pred, self.timesteps[step_index], latents, generator=generator, return_dict=False
        )
        # DPM++ returns no clean prediction, but keeps it as the newest of its history.
        predicted_clean = stepped[1] if len(stepped) > 1 else self._scheduler.model_outputs[-1]
        return StepResult(stepped[0], predicted_clean)


class NoiseSchedulers:
    """Prepared schedulers by name. Makes and advances the schedule of each request."""

    def __init__(self, checkpoint_config: Mapping[str, Any], names: tuple[str, ...]) -> None:
        self._prepared = {name: make_noise_scheduler(name, checkpoint_config) for name in names}

    def schedule(self, name: str, num_steps: int, *, strength: float = 1.0) -> NoiseSchedule:
        """A new schedule, for one request."""
        return NoiseSchedule(self._prepared[name], num_steps, strength=strength)

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
