# SPDX-License-Identifier: Apache-2.0
"""Each request at its own timestep, with its own diffusers scheduler and its own generator."""

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
    """Keeps what the checkpoint was trained with (betas, prediction type, spacing) and changes only the solver."""
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
    """What a step gives for one request."""

    latents: torch.Tensor  # (1, 4, h, w)
    predicted_clean: torch.Tensor  # (1, 4, h, w), what the picture would be if the rest of the noise went at once


class NoiseSchedule:
    """One request's way from noise to picture."""

    def __init__(self, scheduler: Any, num_steps: int, device: torch.device) -> None:
        # A copy of a prepared object: its constructor takes 2 ms, and `set_timesteps` binds all encoded anew.
        self._scheduler = copy.copy(scheduler)
        self._scheduler.set_timesteps(num_steps, device=device)
        self._scheduler.set_begin_index(0)  # else the first step looks its index up, which waits for the GPU
        self.timesteps: list[torch.Tensor] = list(self._scheduler.timesteps)

    @property
    def num_steps(self) -> int:
        return len(self.timesteps)

    @property
    def init_noise_sigma(self) -> Any:
        return self._scheduler.init_noise_sigma

    def scale(self, latents: torch.Tensor, step_index: int) -> torch.Tensor:
        """The latents as the networks want them at this step: (1, 4, h, w)."""
        scaled: torch.Tensor = self._scheduler.scale_model_input(latents, self.timesteps[step_index])
        return scaled

    def step(
        self, noise_pred: torch.Tensor, latents: torch.Tensor, step_index: int, generator: torch.Generator
    ) -> StepResult:
        """From this step's latents to the next one's; ancestral noise comes from the request's own generator."""
        stepped = self._scheduler.step(
            noise_pred, self.timesteps[step_index], latents, generator=generator, return_dict=False
        )
        # DPM++ answers no clean prediction, but keeps it as the newest of its history.
        predicted_clean = stepped[1] if len(stepped) > 1 else self._scheduler.model_outputs[-1]
        return StepResult(stepped[0], predicted_clean)


class NoiseSchedulers:
    """Prepared schedulers by name, and a step with a request's own."""

    def __init__(self, checkpoint_config: Mapping[str, Any], names: tuple[str, ...], device: torch.device) -> None:
        self._device = device
        self._prepared = {name: make_noise_scheduler(name, checkpoint_config) for name in names}

    def schedule(self, name: str, num_steps: int) -> NoiseSchedule:
        """A schedule of a request's own."""
        return NoiseSchedule(self._prepared[name], num_steps, self._device)

    def advance(self, state: RequestState, noise_pred: torch.Tensor) -> None:
        """One step, by the predicted noise (1, 4, h, w)."""
        encoded = state.encoded
        result = encoded.schedule.step(noise_pred, encoded.latents, state.step_index, encoded.generator)
        encoded.latents = result.latents
        encoded.predicted_clean = result.predicted_clean
        state.step_index += 1
