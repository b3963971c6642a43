# SPDX-License-Identifier: Apache-2.0
"""Translates A1111's samplers and noise schedules to schedulers and timestep spacings."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi_triton.core.errors import invalid_field, shown
from fastapi_triton.core.suggestions import closest
from fastapi_triton.pictures.text_to_image import Capabilities

_AUTOMATIC = "automatic"
# Noise schedules that are the same for all samplers, by the timestep spacing that gives the same timesteps.
_SPACINGS = {
    "uniform": "linspace",
    "normal": "linspace",
    "sgm_uniform": "trailing",
    "simple": "trailing",
    "ddim": "leading",
}
# The names and labels of all noise schedules.
_SCHEDULES = {
    _AUTOMATIC: "Automatic",
    "uniform": "Uniform",
    "karras": "Karras",
    "exponential": "Exponential",
    "sgm_uniform": "SGM Uniform",
    "simple": "Simple",
    "normal": "Normal",
    "ddim": "DDIM",
}
# Samplers whose amount of noise is `eta`. A1111 has it for Euler a too, where it is 1 by default.
_WITH_ETA = ("ddim", "tcd")


@dataclass(frozen=True, slots=True)
class Sampler:
    """A sampler of A1111: its label, and its scheduler without a noise schedule of its own."""

    label: str
    scheduler: str
    # Further schedulers by noise schedule. `automatic` is the one that A1111 chooses.
    schedules: Mapping[str, str]
    aliases: tuple[str, ...] = ()
    takes_spacing: bool = True

    def scheduler_for(self, schedule: str) -> str:
        return self.schedules.get(schedule, self.scheduler)

    def takes(self, schedule: str) -> bool:
        return schedule in self.schedules or (schedule in _SPACINGS and self.takes_spacing)

    @property
    def schedulers(self) -> list[str]:
        """Its schedulers, the one that A1111 chooses first."""
        return list(dict.fromkeys((self.scheduler_for(_AUTOMATIC), self.scheduler, *self.schedules.values())))


def _karras(scheduler: str, **others: str) -> dict[str, str]:
    return {"karras": f"{scheduler}_karras", **others}


SAMPLERS = (
    Sampler("Euler", "euler", _karras("euler"), ("k_euler",)),
    Sampler("Euler a", "euler_ancestral", {}, ("k_euler_a", "k_euler_ancestral")),
    Sampler("Heun", "heun", {}, ("k_heun",)),
    Sampler("DDIM", "ddim", {}),
    Sampler("UniPC", "unipc", {}),
    Sampler("DPM++ 2M", "dpmpp_2m", _karras("dpmpp_2m", automatic="dpmpp_2m_karras"), ("k_dpmpp_2m", "k_dpmpp_2m_ka")),
    Sampler(
        "DPM++ 2M SDE",
        "dpmpp_2m_sde",
        _karras("dpmpp_2m_sde", exponential="dpmpp_2m_sde_exponential", automatic="dpmpp_2m_sde_exponential"),
        ("k_dpmpp_2m_sde", "k_dpmpp_2m_sde_ka"),
    ),
    Sampler(
        "DPM++ SDE", "dpmpp_sde", _karras("dpmpp_sde", automatic="dpmpp_sde_karras"), ("k_dpmpp_sde", "k_dpmpp_sde_ka")
    ),
    Sampler("LCM", "lcm", {}, takes_spacing=False),
    Sampler("TCD", "tcd", {}, takes_spacing=False),
)
# Unsupported samplers, and the most similar ones.
_SIMILAR = {
    "ddim cfg++": "DDIM",
    "dpm adaptive": "DPM++ 2M",
    "dpm fast": "DPM++ 2M",
    "dpm++ 2m sde heun": "DPM++ 2M SDE",
    "dpm++ 2s a": "Euler a",
    "dpm++ 3m sde": "DPM++ 2M SDE",
    "dpm2": "Heun",
    "dpm2 a": "Euler a",
    "lms": "Euler",
    "plms": "DDIM",
    "restart": "Euler a",
}


@dataclass(frozen=True, slots=True)
class Choice:
    """The scheduler and the timestep spacing for a request. None: the model's default."""

    scheduler: str | None = None
    timestep_spacing: str | None = None


def choose(
    sampler: str | None, schedule: str | None, capabilities: Capabilities, note: Callable[[str], None]
) -> Choice:
    """The scheduler for a sampler and a noise schedule, or the most similar one.

    Raises:
        InvalidRequestError: the sampler is unknown, or the model does not support its scheduler.
    """
    if not sampler and _key(schedule) == _AUTOMATIC:
        return Choice()
    name = (sampler or capabilities.defaults.get("scheduler", "")).strip().lower()
    found, of_name, is_similar = _of_name(name)
    if found is None and not sampler:  # the model has another scheduler by default
        note(f"The noise schedule '{shown(schedule)}' needs a sampler_name, and was ignored.")
        return Choice()
    if found is None or not _supported(found, capabilities):
        known = ", ".join(labels(capabilities))
        close = closest(name, _BY_NAME) if found is None else None
        meant = f" (did you mean {_BY_NAME[close][0].label}?)" if close else ""
        detail = f'The sampler "{shown(sampler or name)}" is not supported{meant}; use one of {known}.'
        raise invalid_field("sampler_name", "unknown_scheduler", detail)
    if is_similar:
        note(f"The sampler '{shown(sampler)}' is not supported; the most similar one, {found.label}, is used.")
    return _choice(found, _schedule(found, schedule or "", of_name, note), capabilities, note)


def _of_name(name: str) -> tuple[Sampler | None, str, bool]:
    """The sampler and the noise schedule of a name in lower case, and whether the sampler is only a similar one.

    Before version 1.9 of A1111, names of samplers ended with any of its noise schedules: DPM++ 3M SDE Karras.
    """
    if name in _BY_NAME:
        return *_BY_NAME[name], False
    endings = {f" {label.lower()}": schedule for schedule, label in _SCHEDULES.items()}
    for ending, schedule in ({"": _AUTOMATIC} | endings).items():
        sampler = name.removesuffix(ending)
        similar = _SIMILAR.get(sampler, sampler).lower()
        if name.endswith(ending) and similar in _BY_NAME:
            return _BY_NAME[similar][0], schedule, sampler in _SIMILAR
    return None, _AUTOMATIC, False


def _schedule(sampler: Sampler, sent: str, of_name: str, note: Callable[[str], None]) -> str:
    """The noise schedule to use: the one that was sent, else that of the name, if the sampler takes it."""
    for schedule, text in ((_key(sent), sent), (of_name, _SCHEDULES.get(of_name, ""))):
        # A scheduler's own name, such as dpmpp_2m, has the schedule "".
        if schedule != _AUTOMATIC and (not schedule or sampler.takes(schedule)):
            return schedule
        if schedule != _AUTOMATIC:
            close = closest(schedule, _SCHEDULES) if schedule not in _SCHEDULES else None
            meant = f" (did you mean {_SCHEDULES[close]}?)" if close else ""
            note(f"The noise schedule '{shown(text)}' is not supported with {sampler.label}{meant}, and was ignored.")
    return _AUTOMATIC


def _key(schedule: str | None) -> str:
    return (schedule or "").strip().lower().replace(" ", "_") or _AUTOMATIC


def _choice(sampler: Sampler, schedule: str, capabilities: Capabilities, note: Callable[[str], None]) -> Choice:
    wanted = sampler.scheduler_for(schedule)
    supported = _supported(sampler, capabilities)
    if wanted not in supported:
        note(f"{label(wanted)} is not supported by this model; {label(supported[0])} is used.")
        wanted = supported[0]
    return Choice(wanted, _SPACINGS.get(schedule))


def _supported(sampler: Sampler, capabilities: Capabilities) -> list[str]:
    return [each for each in sampler.schedulers if each in (capabilities.schedulers or sampler.schedulers)]


def eta(value: float | None, scheduler: str | None, note: Callable[[str], None]) -> float | None:
    """A1111's `eta` if the scheduler has it. 1, the default of A1111's clients, is what the others do anyway."""
    if value is None or scheduler in _WITH_ETA:
        return value
    if value != 1:
        note(f"`eta` is {value:g}, and was ignored: only DDIM and TCD have it.")
    return None


def labels(capabilities: Capabilities) -> list[str]:
    """The names of the supported samplers."""
    return [each.label for each in SAMPLERS if _supported(each, capabilities)]


def label(scheduler: str) -> str:
    """The name of a scheduler in A1111, such as DPM++ 2M Karras."""
    sampler, schedule = named(scheduler)
    return sampler if schedule == _SCHEDULES[_AUTOMATIC] else f"{sampler} {schedule}"


def named(scheduler: str, spacing: str | None = None) -> tuple[str, str]:
    """A1111's sampler and schedule type for a scheduler and its timestep spacing, such as DPM++ 2M and Karras.

    Both make the same picture again. Schedulers that A1111 cannot name so have their own name.
    """
    for sampler in SAMPLERS:
        for schedule, other in sampler.schedules.items():
            if scheduler == other and schedule != _AUTOMATIC:
                return sampler.label, _SCHEDULES[schedule]
        if scheduler == sampler.scheduler:
            of_spacing = next((name for name, other in _SPACINGS.items() if other == spacing), None)
            if of_spacing:
                return sampler.label, _SCHEDULES[of_spacing]
            if sampler.scheduler_for(_AUTOMATIC) == scheduler:
                return sampler.label, _SCHEDULES[_AUTOMATIC]
    return scheduler, _SCHEDULES[_AUTOMATIC]


def listed(capabilities: Capabilities) -> list[dict[str, Any]]:
    """The response of `/sdapi/v1/samplers`."""
    return [
        {"name": each.label, "aliases": [*_supported(each, capabilities), *each.aliases], "options": {}}
        for each in SAMPLERS
        if _supported(each, capabilities)
    ]


def listed_schedules() -> list[dict[str, Any]]:
    """The response of `/sdapi/v1/schedulers`."""
    return [
        {"name": name, "label": label, "aliases": None, "default_rho": -1.0, "need_inner_model": False}
        for name, label in _SCHEDULES.items()
    ]


def _names() -> Iterator[tuple[str, tuple[Sampler, str]]]:
    """The samplers and their noise schedules, by all names in lower case: Euler a, k_euler_a, DPM++ 2M Karras …"""
    for sampler in SAMPLERS:
        for name in (sampler.label, *sampler.aliases):
            yield name.lower(), (sampler, _AUTOMATIC)
        yield sampler.scheduler, (sampler, "")
        for schedule, scheduler in sampler.schedules.items():
            if schedule != _AUTOMATIC:
                yield f"{sampler.label} {schedule}".lower(), (sampler, schedule)
                yield scheduler, (sampler, schedule)


_BY_NAME = dict(_names())
