# SPDX-License-Identifier: Apache-2.0
"""The defaults, limits, sizes and schedulers of a checkpoint, from its `serving.json`; without one, those of SDXL."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from diffusion_engine.presets import Presets, checked_presets
from diffusion_engine.scheduler_kinds import SCHEDULER_KINDS, TIMESTEP_SPACINGS
from diffusion_engine.suggestions import nearest

# The end of the names of files that hold a whole checkpoint, or one network.
SINGLE_FILE = ".safetensors"
SCHEDULERS = tuple(name for name, kind in SCHEDULER_KINDS.items() if kind.is_available)
# The chunks of 75 tokens that a prompt may have. Each takes time in every step.
MAX_PROMPT_CHUNKS = 16
# What a picture file records: everything, everything but the prompts, nothing.
RECEIPTS = ("full", "no_prompt", "none")
OUTPUT_FORMATS = ("webp", "png", "jpeg")
# The keys of a `serving.json`; `checked_presets` checks the presets.
SERVING_KEYS = {
    "name": str,
    "about": str,
    "suggestions": dict,
    "defaults": dict,
    "limits": dict,
    "sizes": list,
    "schedulers": list,
    "presets": object,
}
# Of a `serving.json`, for people who write prompts.
MAX_SUGGESTIONS = 500
# The sizes SDXL was trained on, width by height.
SDXL_SIZES = (
    (1024, 1024),
    (1152, 896),
    (896, 1152),
    (1216, 832),
    (832, 1216),
    (1344, 768),
    (768, 1344),
    (1536, 640),
    (640, 1536),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """The values of parameters that a request omits."""

    num_inference_steps: int = 30
    guidance_scale: float = 5.0
    conditioning_scale: float = 1.0
    width: int = 1024
    height: int = 1024
    scheduler: str = "euler_ancestral"
    timestep_spacing: str | None = None  # None: as in the checkpoint's `scheduler_config.json`
    output_format: str = "webp"
    output_quality: int = 90
    receipt: str = "full"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The highest values that a request may have."""

    max_inference_steps: int = 100
    max_guidance_scale: float = 30.0
    max_conditioning_scale: float = 2.0
    max_prompt_characters: int = 10_000
    max_prompt_chunks: int = MAX_PROMPT_CHUNKS
    max_loras: int = 8
    max_lora_scale: float = 4.0  # of either sign
    max_upscale: float = 1.0  # larger pictures are upscaled by up to this factor; 1: they are refused


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownLoRA:
    """An adapter that requests may name."""

    name: str
    trigger_words: str = ""  # that its author recommends for prompts
    unusable: str = ""  # the reason why it cannot be used, as a sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What one checkpoint supports."""

    name: str
    revision: str = ""  # of the weights as they were loaded
    defaults: Defaults = field(default_factory=Defaults)
    limits: Limits = field(default_factory=Limits)
    sizes: tuple[tuple[int, int], ...] = SDXL_SIZES
    schedulers: tuple[str, ...] = SCHEDULERS
    loras: tuple[KnownLoRA, ...] = ()  # set when the engine has found their files
    presets: Presets = field(default_factory=dict)
    about: str | None = None  # what the checkpoint can paint, for people
    suggestions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # words for prompts, in groups

    @classmethod
    def of_checkpoint(
        cls, checkpoint: str, *, defaults: Mapping[str, Any] | None = None, presets: Presets | None = None
    ) -> Self:
        """Read the checkpoint's `serving.json`. A checkpoint without one has the capabilities of SDXL.

        Args:
            defaults: override the checkpoint's own, such as 4 steps without guidance for a few-step UNet.
            presets: added to the checkpoint's own, and in place of those of the same name.

        Raises:
            ValueError: the file contradicts itself, or has an unknown default or limit.
        """
        file = serving_file(checkpoint)
        name = checkpoint.rstrip("/").rsplit("/", 1)[-1].removesuffix(SINGLE_FILE)
        content: dict[str, Any] = {"defaults": {}, "limits": {}, "name": name, "sizes": SDXL_SIZES}
        if file.is_file():
            content |= read_serving_file(file)
        capabilities = cls(
            name=content["name"],
            defaults=Defaults(**known(Defaults, {**content["defaults"], **(defaults or {})}, file)),
            limits=Limits(**known(Limits, content["limits"], file)),
            sizes=checked_sizes(content["sizes"], file),
            schedulers=tuple(content.get("schedulers", SCHEDULERS)),
            presets={**checked_presets(content.get("presets", {}), str(file)), **(presets or {})},
            about=content.get("about"),
            suggestions=checked_suggestions(content.get("suggestions", {}), file),
        )
        capabilities.check(file)
        return capabilities

    def describe(self) -> dict[str, Any]:
        """The same as plain data."""
        cacheable = [name for name in self.schedulers if not SCHEDULER_KINDS[name].uncacheable]
        return {**asdict(self), "cacheable_schedulers": cacheable}

    def check(self, file: Path) -> None:
        """Raise `ValueError` if the checkpoint's own defaults are invalid."""
        if (self.defaults.width, self.defaults.height) not in self.sizes:
            raise ValueError(f"{file}: the default size must be one of its sizes")
        if unknown := [name for name in self.schedulers if name not in SCHEDULERS]:
            raise ValueError(f"{file}: unknown schedulers {unknown}; the engine has {', '.join(SCHEDULERS)}")
        if self.defaults.scheduler not in self.schedulers:
            raise ValueError(f"{file}: the default scheduler must be one of its schedulers")
        if self.defaults.timestep_spacing not in (None, *TIMESTEP_SPACINGS):
            raise ValueError(f"{file}: the default timestep_spacing must be one of {', '.join(TIMESTEP_SPACINGS)}")
        if self.defaults.receipt not in RECEIPTS:
            raise ValueError(f"{file}: the default receipt must be one of {', '.join(RECEIPTS)}")
        if self.defaults.output_format not in OUTPUT_FORMATS:
            raise ValueError(f"{file}: the default output_format must be one of {', '.join(OUTPUT_FORMATS)}")
        if below_0 := [item.name for item in fields(Limits) if getattr(self.limits, item.name) < 0]:
            raise ValueError(f"{file}: the limit {below_0[0]} must not be below 0")


def serving_file(checkpoint: str) -> Path:
    """The `serving.json` in the checkpoint's folder. Of a checkpoint in one file: NAME.serving.json beside it, or that
    of its folder.
    """
    path = Path(checkpoint)
    if not checkpoint.endswith(SINGLE_FILE):
        return path / "serving.json"
    own = path.with_suffix(".serving.json")
    return own if own.is_file() else path.with_name("serving.json")


def read_serving_file(file: Path) -> dict[str, Any]:
    """The content of a `serving.json`. Raises `ValueError` if it is not JSON, or has an unknown key."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file} must be an object")
    if unknown := sorted(content.keys() - set(SERVING_KEYS)):
        raise ValueError(f"{file}: unknown key {unknown[0]!r}{nearest(unknown[0], SERVING_KEYS)}")
    for key, value in content.items():
        if not isinstance(value, SERVING_KEYS[key]):
            raise ValueError(f"{file}: {key} is {value!r}; its type must be {SERVING_KEYS[key].__name__}")
    return content


def checked_sizes(sizes: Any, file: Path) -> tuple[tuple[int, int], ...]:
    pairs = [tuple(size) for size in sizes if isinstance(size, list | tuple)] if isinstance(sizes, list | tuple) else []
    is_valid = pairs and len(pairs) == len(sizes)
    if not is_valid or not all(
        len(pair) == 2 and all(type(side) is int and side > 0 for side in pair) for pair in pairs
    ):
        raise ValueError(f"{file}: sizes must be a list of widths and heights, such as [[1024, 1024], [1152, 896]]")
    return tuple((width, height) for width, height in pairs)


def checked_suggestions(suggestions: Mapping[str, Any], file: Path) -> dict[str, tuple[str, ...]]:
    if not all(
        isinstance(group, list) and all(isinstance(text, str) for text in group) for group in suggestions.values()
    ):
        raise ValueError(f'{file}: suggestions must be lists of texts, such as {{"things": ["a house", "a cat"]}}')
    if sum(map(len, suggestions.values())) > MAX_SUGGESTIONS:
        raise ValueError(f"{file}: more than {MAX_SUGGESTIONS} suggestions")
    return {name: tuple(group) for name, group in suggestions.items()}


def known(of_class: type[Any], values: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """The values of a class, by name. Raises `ValueError` for unknown names and other types."""
    group = of_class.__name__.lower()
    names = {item.name: item.type for item in fields(of_class)}
    kinds_of: dict[Any, tuple[type, ...]] = {int: (int,), float: (int, float), str: (str,)}
    if unknown := sorted(values.keys() - names):
        raise ValueError(f"{file}: unknown {group} {unknown}; known are {', '.join(sorted(names))}")
    for name, value in values.items():
        kinds = kinds_of.get(names[name], (str, type(None)))
        if isinstance(value, bool) or not isinstance(value, kinds):
            expected = " or ".join(kind.__name__ for kind in kinds)
            raise ValueError(f"{file}: {group} has {value!r} as {name}; its type must be {expected}")
    return dict(values)
