# SPDX-License-Identifier: Apache-2.0
"""The request's field `loras`: JSON → adapters with scales, checked. Imports no torch."""

import difflib
import json
import math
from typing import Any

from diffusion_engine.capabilities import Capabilities
from diffusion_engine.errors import RequestError
from diffusion_engine.request import LoRA

MOST_NAMES = 8  # that an error lists


def parse_loras(text: str, capabilities: Capabilities) -> tuple[LoRA, ...]:
    """The adapters that a request names. Raises `RequestError` for invalid JSON, names and scales."""
    if not text.strip():
        return ()
    try:
        items = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise invalid(f"is not JSON: {error}") from None
    if not isinstance(items, list):
        raise invalid("is not a list")
    if len(items) > capabilities.limits.max_loras:
        detail = f"`loras` has {len(items)} LoRAs; at most {capabilities.limits.max_loras} are allowed."
        raise RequestError("out_of_range", detail, field="loras")
    loras = tuple(_parse(item, capabilities) for item in items)
    names = [lora.name for lora in loras]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise invalid(f"names {repeated[0]} twice; add the scales")
    return loras


def _parse(item: Any, capabilities: Capabilities) -> LoRA:
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        raise invalid(f"has the item {json.dumps(item)[:100]}")
    if unknown := sorted(item.keys() - {"name", "scale"}):
        raise invalid(f"has an item with the key {unknown[0][:100]!r}")
    return LoRA(name=_known(item["name"], capabilities), scale=_scale(item, capabilities.limits.max_lora_scale))


def _scale(item: dict[str, Any], highest: float) -> float:
    scale = item.get("scale", 1.0)
    if isinstance(scale, bool) or not isinstance(scale, int | float):
        raise invalid(f"has the scale {json.dumps(scale)[:100]} of {item['name'][:100]}")
    if isinstance(scale, float) and not math.isfinite(scale):
        raise RequestError("not_finite", f"`loras` has the scale {scale}; it must be a finite number.", field="loras")
    if abs(scale) > highest:
        detail = f"`loras` has the scale {str(scale)[:20]}; it must be from {-highest:g} to {highest:g}."
        raise RequestError("out_of_range", detail, field="loras")
    return float(scale)


def _known(name: str, capabilities: Capabilities) -> str:
    known = {lora.name: lora for lora in capabilities.loras}
    if name not in known:
        usable = [lora.name for lora in capabilities.loras if not lora.unusable]
        nearest = difflib.get_close_matches(name[:100], usable, n=1, cutoff=0 if len(usable) > MOST_NAMES else 0.6)
        if nearest:
            hint = f"the nearest name is {nearest[0]!r}"
        else:
            hint = f"this checkpoint has {', '.join(usable) or 'no LoRAs'}"
        raise RequestError("unknown_lora", f"`loras` names {name[:100]!r}; {hint}.", field="loras")
    if reason := known[name].unusable:
        raise RequestError("unusable_lora", f"The LoRA {name} cannot be used. {reason}", field="loras")
    return name


def invalid(problem: str) -> RequestError:
    detail = f'`loras` {problem}. It must be a list such as [{{"name": "watercolour", "scale": 0.8}}].'
    return RequestError("invalid_value", detail, field="loras")
