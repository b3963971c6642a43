# SPDX-License-Identifier: Apache-2.0
"""Translates A1111's samplers and noise schedules to schedulers. A scheduler is both in one."""

from collections.abc import Callable
from typing import Any

from fastapi_triton.core.errors import invalid_field, shown
from fastapi_triton.pictures.text_to_image import Capabilities

# Schedulers, and A1111's names for the same samplers.
LABELS = {
    "euler": "Euler",
    "euler_ancestral": "Euler a",
    "dpmpp_2m_karras": "DPM++ 2M Karras",
    "lcm": "LCM",
}
ALIASES = {
    "euler": ["k_euler"],
    "euler_ancestral": ["k_euler_a", "k_euler_ancestral"],
    "dpmpp_2m_karras": ["DPM++ 2M", "k_dpmpp_2m", "k_dpmpp_2m_ka"],
    "lcm": [],
}
# Unsupported samplers, by the most similar scheduler: without noise in each step, with it, and multistep.
_NEAREST = {
    "euler": ("ddim", "ddim cfg++", "dpm adaptive", "dpm fast", "dpm2", "heun", "lms", "plms"),
    "euler_ancestral": ("dpm++ 2s a", "dpm++ sde", "dpm2 a", "restart"),
    "dpmpp_2m_karras": ("dpm++ 2m sde", "dpm++ 2m sde heun", "dpm++ 3m sde", "unipc"),
}
_SCHEDULES = ("automatic", "karras")


def _by_name() -> dict[str, str]:
    names = {each: scheduler for scheduler, others in _NEAREST.items() for each in others}
    for scheduler, label in LABELS.items():
        names |= dict.fromkeys((each.lower() for each in (scheduler, label, *ALIASES[scheduler])), scheduler)
    return names


_BY_NAME = _by_name()


def scheduler(
    sampler: str | None, schedule: str | None, capabilities: Capabilities, note: Callable[[str], None]
) -> str | None:
    """The scheduler for a sampler, or the most similar one; None, the model's default, without a sampler.

    Raises:
        InvalidRequestError: the sampler is unknown, or the model does not support its scheduler.
    """
    if (schedule or "automatic").lower() not in (_SCHEDULES if sampler else _SCHEDULES[:1]):
        note(f"The sampler determines the noise schedule; '{shown(schedule)}' was ignored.")
    if not sampler:
        return None
    name = sampler.strip().lower()
    found = _BY_NAME.get(name) or _BY_NAME.get(name.removesuffix(" karras").removesuffix(" exponential"))
    if found is None or (capabilities.schedulers and found not in capabilities.schedulers):
        detail = f'The sampler "{shown(sampler)}" is not supported; use one of {", ".join(labels(capabilities))}.'
        raise invalid_field("sampler_name", "unknown_scheduler", detail)
    if name not in (each.lower() for each in (found, LABELS[found], *ALIASES[found])):
        note(f"The sampler '{shown(sampler)}' is not supported; the most similar one, {LABELS[found]}, is used.")
    return found


def labels(capabilities: Capabilities) -> list[str]:
    """The names of the supported samplers."""
    return [LABELS.get(name, name) for name in capabilities.schedulers or LABELS]


def listed(capabilities: Capabilities) -> list[dict[str, Any]]:
    """The response of `/sdapi/v1/samplers`."""
    return [
        {"name": LABELS.get(name, name), "aliases": [name, *ALIASES.get(name, [])], "options": {}}
        for name in capabilities.schedulers or LABELS
    ]


def listed_schedules() -> list[dict[str, Any]]:
    """The response of `/sdapi/v1/schedulers`."""
    return [
        {"name": name, "label": name.title(), "aliases": None, "default_rho": -1.0, "need_inner_model": False}
        for name in _SCHEDULES
    ]
