# SPDX-License-Identifier: Apache-2.0
"""A1111's infotext: the prompts and a line of parameters, which its picture files and responses have."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from fastapi_triton.pictures.a1111 import samplers

_NEGATIVE = "Negative prompt:"
# A1111's names of parameters.
_NAME = re.compile(r"\w[\w \-/]{1,80}")
_QUOTED = re.compile(r'"(?:\\.|[^\\"])*"')
_SIZE = re.compile(r"(\d{1,6})x(\d{1,6})")
# A last line with fewer belongs to the prompt.
_FEWEST = 3
_MOST = 200
_LONGEST_LINE = 65_536
# A1111 counts CLIP's layers from the last; SDXL skips one of them.
_SDXL_CLIP_STOP = 2


def write(prompt: str, negative_prompt: str, parameters: Mapping[str, Any]) -> str:
    """The infotext. Parameters that are None are omitted."""
    negative = f"\n{_NEGATIVE} {negative_prompt}" if negative_prompt else ""
    line = ", ".join(f"{name}: {_quoted(value)}" for name, value in parameters.items() if value is not None)
    return f"{prompt}{negative}\n{line}".strip()


def parameters(fields: Mapping[str, Any], used: Mapping[str, Any], scheduler: str) -> dict[str, Any]:
    """The parameters of one picture, in A1111's order.

    Args:
        fields: the endpoint's fields of the request.
        used: what the model used, from its `info`; empty if it sent none.
        scheduler: the requested one.
    """
    known = {**fields, **used}
    sampler, schedule = samplers.named(known.get("scheduler") or scheduler, known.get("timestep_spacing"))
    width, height = known.get("width"), known.get("height")
    return {
        "Steps": known.get("num_inference_steps"),
        "Sampler": sampler or None,
        "Schedule type": schedule,
        "CFG scale": known.get("guidance_scale"),
        "Seed": fields.get("seed"),
        "Size": f"{width}x{height}" if width and height else None,
        "Model": used.get("checkpoint"),
        "Denoising strength": known.get("strength") if known.get("init_image") else None,
        "Clip skip": known["clip_skip"] + _SDXL_CLIP_STOP if known.get("clip_skip") else None,
        "Mask blur": known.get("mask_blur") if known.get("mask") else None,
        "Eta": known.get("eta"),
        "ControlNet 0": _unit(known) if known.get("image") else None,
        "Lora hashes": _lora_hashes(used.get("loras") or ()) or None,
    }


def _unit(known: Mapping[str, Any]) -> str:
    parts = {
        "Module": "invert" if known.get("invert") == "yes" else "none",
        "Weight": known.get("conditioning_scale"),
        "Resize Mode": "Resize and Fill",
        "Guidance Start": known.get("control_guidance_start"),
        "Guidance End": known.get("control_guidance_end"),
        "Control Mode": "Balanced",
    }
    return ", ".join(f"{name}: {value}" for name, value in parts.items() if value is not None)


def _lora_hashes(loras: Any) -> str:
    return ", ".join(f"{lora['name']}: {lora['sha256'][:12]}" for lora in loras if lora.get("sha256"))


def _quoted(value: Any) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if any(mark in text for mark in ',:\n"') else text


def read(text: str) -> dict[str, Any]:
    """The parameters of an infotext by A1111's names, with `Prompt` and `Negative prompt`. Takes any text."""
    *lines, last = text.strip().split("\n")
    found = dict(_parameters(last)) if len(last) <= _LONGEST_LINE else {}
    if len(found) < _FEWEST:
        lines.append(last)
        found = {}
    prompt, mark, negative = "\n".join(map(str.strip, lines)).partition(f"\n{_NEGATIVE}")
    if prompt.startswith(_NEGATIVE) and not mark:
        prompt, negative = "", prompt.removeprefix(_NEGATIVE)
    result: dict[str, Any] = {"Prompt": prompt, "Negative prompt": negative.strip()}
    for name, value in found.items():
        size = _SIZE.fullmatch(value)
        result |= {f"{name}-1": size[1], f"{name}-2": size[2]} if size else {name: value}
    return result


def _parameters(line: str) -> Iterator[tuple[str, str]]:
    """The names and values of a line."""
    position = 0
    for _ in range(_MOST):
        colon = line.find(":", position)
        if colon < 0:
            return
        name = line[position:colon].rpartition(",")[2].strip()
        start = colon + 1
        while line[start : start + 1] == " ":
            start += 1
        quoted = _QUOTED.match(line, start)
        end = quoted.end() if quoted else start
        comma = line.find(",", end)
        comma = len(line) if comma < 0 else comma
        value = line[start:comma].strip()
        if _NAME.fullmatch(name):
            yield name, _unquoted(value) if quoted and quoted[0] == value else value
        position = comma + 1


def _unquoted(value: str) -> str:
    try:
        return str(json.loads(value))
    except ValueError:
        return value
