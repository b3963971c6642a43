# SPDX-License-Identifier: Apache-2.0
"""The diffusion schedulers by the names that requests use; a fresh object each, because diffusers' keep state."""

from collections.abc import Mapping
from typing import Any

from diffusers import (
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
)


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
    raise ValueError(f"no scheduler is called {name!r}")
