# SPDX-License-Identifier: Apache-2.0
"""Presets: named values of several fields, for requests that omit these fields. Imports no torch."""

import json
from collections.abc import Mapping
from typing import Any

from diffusion_engine.errors import RequestError
from diffusion_engine.request import MAX_LORAS_CHARACTERS
from diffusion_engine.scheduler_kinds import SCHEDULER_KINDS, SchedulerKind
from diffusion_engine.suggestions import nearest

Presets = Mapping[str, Mapping[str, Any]]

# The fields that determine how a picture is made, but not what it shows.
PRESET_FIELDS: Mapping[str, type] = {
    "num_inference_steps": int,
    "guidance_scale": float,
    "control_guidance_start": float,
    "control_guidance_end": float,
    "scheduler": str,
    "timestep_spacing": str,
    "eta": float,
    "loras": list,
    "clip_skip": int,
    "cache": float,
}


def checked_presets(presets: Any, source: str) -> Presets:
    """Presets as `serving.json` has them. `request_parser.check_presets` checks their values.

    Raises:
        ValueError: they have another form, or a field that a preset cannot set.
    """
    if not isinstance(presets, dict) or not all(isinstance(preset, dict) for preset in presets.values()):
        raise ValueError(f'{source}: presets must be objects by name, such as {{"fast": {{"num_inference_steps": 4}}}}')
    for name, preset in presets.items():
        if not name.strip():
            raise ValueError(f"{source}: a preset needs a name")
        for field, value in preset.items():
            if field not in PRESET_FIELDS:
                known = ", ".join(PRESET_FIELDS)
                raise ValueError(
                    f"{source}: preset {name!r} has {field!r}{nearest(field, PRESET_FIELDS)}; it may have {known}"
                )
            kind = PRESET_FIELDS[field]
            if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else kind):
                raise ValueError(
                    f"{source}: preset {name!r} has {value!r} as {field}; its type must be {kind.__name__}"
                )
    return presets


def with_preset(
    values: Mapping[str, bytes | int | float | None], name: str, presets: Presets
) -> Mapping[str, bytes | int | float | None]:
    """The values of a request, with those of the named preset for omitted fields. An empty name means no preset.

    LoRAs of the request are added to those of the preset. If the request has a scheduler of its own, options that this
    one lacks are omitted.

    Raises:
        RequestError: there is no such preset.
    """
    if not name:
        return values
    if name not in presets:
        known = f"it must be one of {', '.join(presets)}" if presets else "this checkpoint has no presets"
        detail = f"`preset` is {name[:100]!r}{nearest(name, presets)}; {known}."
        raise RequestError("unknown_preset", detail, field="preset")
    omitted = {field: value for field, value in presets[name].items() if values.get(field) in (None, b"")}
    own = _kind_of(values.get("scheduler"))
    taken = {field: _tensor_value(value) for field, value in omitted.items() if own is None or own.takes(field)}
    loras = values.get("loras")
    if isinstance(loras, bytes) and loras and "loras" in presets[name]:
        taken["loras"] = _joined(presets[name]["loras"], loras)
    return {**values, **taken}


def _kind_of(scheduler: object) -> SchedulerKind | None:
    name = scheduler.decode(errors="replace") if isinstance(scheduler, bytes) else ""
    return SCHEDULER_KINDS.get(name.strip().lower())


def _joined(of_preset: list[Any], loras: bytes) -> bytes:
    """The LoRAs of a preset and of a request. If both name one, the request's scale counts."""
    try:
        own = json.loads(loras) if len(loras) <= MAX_LORAS_CHARACTERS else None
    except (ValueError, RecursionError):
        own = None
    if not isinstance(own, list):
        return loras  # invalid, which is found later
    names = [item.get("name") for item in own if isinstance(item, dict)]
    return json.dumps([*(item for item in of_preset if item["name"] not in names), *own]).encode()


def _tensor_value(value: Any) -> bytes | int | float:
    """A value of JSON, as a request's tensor has it."""
    if isinstance(value, int | float):
        return value
    return (value if isinstance(value, str) else json.dumps(value)).encode()
