# SPDX-License-Identifier: Apache-2.0
"""The noise schedulers by name: diffusers' classes, and the options that each takes. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any

# How the timesteps of a request are spread over those of the training, as in diffusers.
TIMESTEP_SPACINGS = ("leading", "linspace", "trailing")
# The timesteps of a distilled model, from which a request's are chosen.
DISTILLED_STEPS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerKind:
    """A noise scheduler, and what it supports."""

    class_name: str  # in diffusers
    config: Mapping[str, Any] = field(default_factory=dict)  # overrides the checkpoint's
    default_eta: float | None = None  # as in diffusers' `step`; None: it has no eta
    # It needs a model that was distilled to few steps. Its timesteps have a spacing of their own.
    is_for_distilled: bool = False
    is_second_order: bool = False  # it compares two predictions in each step
    package: str = ""  # that diffusers needs for it

    @property
    def is_available(self) -> bool:
        return not self.package or find_spec(self.package) is not None

    @property
    def max_steps(self) -> int | None:
        """The most `num_inference_steps`; None: any number."""
        return DISTILLED_STEPS if self.is_for_distilled else None

    @property
    def uncacheable(self) -> str:
        """Why its steps cannot be cached; empty if they can."""
        if self.is_for_distilled:
            return "has few steps, each with a prediction of its own"
        return "compares two predictions in each step" if self.is_second_order else ""

    def takes(self, option: str) -> bool:
        """Whether `eta`, `timestep_spacing` or `cache` has an effect. Other options do not depend on the scheduler."""
        if option == "eta":
            return self.default_eta is not None
        if option == "cache":
            return not self.uncacheable
        return option != "timestep_spacing" or not self.is_for_distilled


def _dpmpp_2m(algorithm_type: str, **sigmas: bool) -> SchedulerKind:
    config = {"algorithm_type": algorithm_type, "solver_order": 2, "use_karras_sigmas": False, **sigmas}
    return SchedulerKind(class_name="DPMSolverMultistepScheduler", config=config)


def _dpmpp_sde(*, use_karras_sigmas: bool) -> SchedulerKind:
    config = {"use_karras_sigmas": use_karras_sigmas}
    return SchedulerKind(class_name="DPMSolverSDEScheduler", config=config, is_second_order=True, package="torchsde")


SCHEDULER_KINDS: Mapping[str, SchedulerKind] = MappingProxyType(
    {
        "euler": SchedulerKind(class_name="EulerDiscreteScheduler"),
        "euler_karras": SchedulerKind(class_name="EulerDiscreteScheduler", config={"use_karras_sigmas": True}),
        "euler_ancestral": SchedulerKind(class_name="EulerAncestralDiscreteScheduler"),
        "heun": SchedulerKind(class_name="HeunDiscreteScheduler", is_second_order=True),
        # Latents have no limits, so nothing is clipped.
        "ddim": SchedulerKind(class_name="DDIMScheduler", config={"clip_sample": False}, default_eta=0.0),
        "unipc": SchedulerKind(class_name="UniPCMultistepScheduler"),
        "dpmpp_2m": _dpmpp_2m("dpmsolver++"),
        "dpmpp_2m_karras": _dpmpp_2m("dpmsolver++", use_karras_sigmas=True),
        "dpmpp_2m_sde": _dpmpp_2m("sde-dpmsolver++"),
        "dpmpp_2m_sde_karras": _dpmpp_2m("sde-dpmsolver++", use_karras_sigmas=True),
        "dpmpp_2m_sde_exponential": _dpmpp_2m("sde-dpmsolver++", use_exponential_sigmas=True),
        "dpmpp_sde": _dpmpp_sde(use_karras_sigmas=False),
        "dpmpp_sde_karras": _dpmpp_sde(use_karras_sigmas=True),
        "lcm": SchedulerKind(class_name="LCMScheduler", is_for_distilled=True),
        "tcd": SchedulerKind(class_name="TCDScheduler", default_eta=0.3, is_for_distilled=True),
    }
)
