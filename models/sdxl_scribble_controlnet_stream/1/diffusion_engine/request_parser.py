# SPDX-License-Identifier: Apache-2.0
"""Parses the inputs of one row into a checked `DiffusionRequest`, with the checkpoint's defaults."""

import math
import os
from collections.abc import Mapping

from diffusion_engine.capabilities import OUTPUT_FORMATS, RECEIPTS, Capabilities
from diffusion_engine.errors import RequestError
from diffusion_engine.fitted_picture import MASK_SELECTS, MAX_MASK_BLUR
from diffusion_engine.loras.parsing import parse_loras
from diffusion_engine.presets import with_preset
from diffusion_engine.prompt_syntax import PLAIN, SYNTAXES
from diffusion_engine.request import MAX_LORAS_CHARACTERS, DiffusionRequest
from diffusion_engine.scheduler_kinds import SCHEDULER_KINDS, TIMESTEP_SPACINGS
from diffusion_engine.suggestions import nearest

# One value by tensor name; None if the request lacks the tensor.
RowValues = Mapping[str, bytes | int | float | None]

MAX_SEED = 2**63 - 1
# Random seeds are below 2**53, so that they are exact in JavaScript.
RANDOM_SEED_BITS = 53
QUEUE_PRIORITIES = ("interactive", "batch")
INVERT_CHOICES = ("auto", "yes", "no")
MAX_TIMEOUT_S = 86_400.0
# diffusers' default, and for a region one that leaves nothing of its old content.
DEFAULT_STRENGTH, DEFAULT_STRENGTH_WITH_MASK = 0.8, 1.0
# More than the text encoders have layers: these are checked when the text is encoded.
MAX_CLIP_SKIP = 100


def parse_request(values: RowValues, capabilities: Capabilities) -> DiffusionRequest:
    """The checked request. Raises `RequestError` with the field's name for an invalid value."""
    defaults, limits = capabilities.defaults, capabilities.limits
    preset = RowParser(values).text("preset", "", max_characters=200).strip()
    row = RowParser(with_preset(values, preset, capabilities.presets))
    scheduler = row.choice("scheduler", capabilities.schedulers, defaults.scheduler, code="unknown_scheduler")
    request = DiffusionRequest(
        prompt=row.text("prompt", "", max_characters=limits.max_prompt_characters),
        image=row.content("image"),
        conditioning_scale=row.number(
            "conditioning_scale", 0.0, limits.max_conditioning_scale, defaults.conditioning_scale
        ),
        negative_prompt=row.text("negative_prompt", "", max_characters=limits.max_prompt_characters),
        seed=row.seed(),
        num_inference_steps=row.num_inference_steps(capabilities, scheduler),
        guidance_scale=row.number("guidance_scale", 0.0, limits.max_guidance_scale, defaults.guidance_scale),
        control_guidance_start=row.number("control_guidance_start", 0.0, 1.0, 0.0),
        control_guidance_end=row.number("control_guidance_end", 0.0, 1.0, 1.0),
        width=row.side("width"),
        height=row.side("height"),
        scheduler=scheduler,
        output_format=row.choice("output_format", OUTPUT_FORMATS, defaults.output_format),
        output_quality=row.whole_number("output_quality", 1, 100, defaults.output_quality),
        invert=row.choice("invert", INVERT_CHOICES, "auto"),
        receipt=row.choice("receipt", RECEIPTS, defaults.receipt),
        timeout_s=row.timeout(),
        is_batch=row.choice("queue_priority", QUEUE_PRIORITIES, "interactive") == "batch",
        reproducible=row.flag("reproducible"),
        loras=parse_loras(row.text("loras", "", max_characters=MAX_LORAS_CHARACTERS), capabilities),
        preset=preset,
        init_image=row.content("init_image"),
        strength=row.strength(),
        mask=row.content("mask"),
        mask_selects=row.choice("mask_selects", MASK_SELECTS, "white"),
        mask_blur=row.number("mask_blur", 0.0, MAX_MASK_BLUR, 0.0),
        eta=row.eta(scheduler),
        timestep_spacing=row.timestep_spacing(scheduler, defaults.timestep_spacing),
        prompt_syntax=row.choice("prompt_syntax", SYNTAXES, PLAIN),
        clip_skip=row.whole_number("clip_skip", 0, MAX_CLIP_SKIP, 0) or None,
        cache=row.number("cache", 0.0, 1.0, 0.0),
    )
    require_some_steps(request)
    require_cacheable(request)
    if request.control_guidance_start >= request.control_guidance_end:
        raise RequestError(
            "out_of_range",
            f"`control_guidance_start` is {request.control_guidance_start:g} and `control_guidance_end` is "
            f"{request.control_guidance_end:g}; the start must be below the end.",
            field="control_guidance_start",
        )
    return request


def require_cacheable(request: DiffusionRequest) -> None:
    """Raise `RequestError` if the scheduler's steps cannot be cached."""
    reason = SCHEDULER_KINDS[request.scheduler].uncacheable
    if request.cache > 0 and reason:
        detail = f"`cache` is {request.cache:g}, but `scheduler` is {request.scheduler!r}, which {reason}. "
        raise RequestError("unsupported_parameter", detail + "Omit `cache`, or use another scheduler.", field="cache")


def check_presets(capabilities: Capabilities) -> None:
    """Raise `ValueError` if a request with only the defaults, or with one of the presets, would be refused."""
    for name in ("", *capabilities.presets):
        try:
            parse_request({"preset": name.encode()}, capabilities)
        except RequestError as error:
            source = f"preset {name!r}" if name else f"the defaults of {capabilities.name}"
            raise ValueError(f"{source}: {error.detail}") from None


def require_some_steps(request: DiffusionRequest) -> None:
    """Raise `RequestError` if `strength` leaves no step to make."""
    if request.strength is not None and int(request.num_inference_steps * request.strength) < 1:
        raise RequestError(
            "out_of_range",
            f"`strength` is {request.strength:g} and `num_inference_steps` is {request.num_inference_steps}, which "
            f"leaves no step; `strength` must be at least {1 / request.num_inference_steps:.3g}.",
            field="strength",
        )


def random_seed() -> int:
    return int.from_bytes(os.urandom(8), "big") >> (64 - RANDOM_SEED_BITS)


class RowParser:
    """Reads typed values from one row. Each error names the field, the value and the allowed values."""

    def __init__(self, values: RowValues) -> None:
        self.values = values

    def content(self, name: str) -> bytes | None:
        value = self.values.get(name)
        return value if isinstance(value, bytes) else None

    def text(self, name: str, default: str, *, max_characters: int) -> str:
        content = self.content(name)
        if content is None:
            return default
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError:
            raise RequestError("invalid_text", f"`{name}` is not UTF-8 text.", field=name) from None
        if len(text) > max_characters:
            detail = f"`{name}` has {len(text)} characters; at most {max_characters} are allowed."
            raise RequestError("out_of_range", detail, field=name)
        return text

    def choice(self, name: str, choices: tuple[str, ...], default: str, *, code: str = "unknown_option") -> str:
        chosen = self.text(name, default, max_characters=200).strip().lower() or default
        if chosen != default and chosen not in choices:
            detail = f"`{name}` is {chosen[:100]!r}{nearest(chosen, choices)}; it must be one of {', '.join(choices)}."
            raise RequestError(code, detail, field=name)
        return chosen

    def num_inference_steps(self, capabilities: Capabilities, scheduler: str) -> int:
        name, most = "num_inference_steps", SCHEDULER_KINDS[scheduler].max_steps
        num_steps = self.whole_number(
            name, 1, capabilities.limits.max_inference_steps, capabilities.defaults.num_inference_steps
        )
        if most is not None and num_steps > most:
            detail = f"`{name}` is {num_steps}; with the scheduler {scheduler} it must be from 1 to {most}."
            raise RequestError("out_of_range", detail, field=name)
        return num_steps

    def eta(self, scheduler: str) -> float | None:
        kind = SCHEDULER_KINDS[scheduler]
        if not kind.takes("eta"):
            self.refuse_with(scheduler, "eta")
            return None
        return self.number("eta", 0.0, 1.0, kind.default_eta)

    def timestep_spacing(self, scheduler: str, default: str | None) -> str | None:
        if not SCHEDULER_KINDS[scheduler].takes("timestep_spacing"):
            self.refuse_with(scheduler, "timestep_spacing")
            return None
        return self.choice("timestep_spacing", TIMESTEP_SPACINGS, default or "") or None

    def refuse_with(self, scheduler: str, name: str) -> None:
        """Refuse an option that the scheduler does not have."""
        if self.values.get(name) in (None, b""):
            return
        others = [each for each, kind in SCHEDULER_KINDS.items() if kind.takes(name)]
        detail = f"`{name}` has no effect with the scheduler {scheduler}. Omit it, or use one of {', '.join(others)}."
        raise RequestError("unsupported_parameter", detail, field=name)

    def number(self, name: str, low: float, high: float, default: float | None = None) -> float:
        value = self.values.get(name)
        if value is None:
            value = default
        if value is None or isinstance(value, bytes):
            raise missing(name)
        if not math.isfinite(value):
            raise RequestError("not_finite", f"`{name}` is {value}; it must be a finite number.", field=name)
        if not low <= value <= high:
            shown = value if isinstance(value, int) else f"{value:g}"
            detail = f"`{name}` is {shown}; it must be from {low:g} to {high:g}."
            raise RequestError("out_of_range", detail, field=name)
        return value

    def whole_number(self, name: str, low: int, high: int, default: int) -> int:
        return int(self.number(name, low, high, default))

    def flag(self, name: str) -> bool:
        return bool(self.values.get(name))

    def side(self, name: str) -> int | None:
        """A side, not checked yet: `picture_sizes.choose_size` checks it when the scribble's shape is known."""
        value = self.values.get(name)
        return None if value is None else int(value)

    def seed(self) -> int:
        value = self.values.get("seed")
        seed = -1 if value is None else int(value)
        if seed == -1:
            return random_seed()
        if not 0 <= seed <= MAX_SEED:
            detail = f"`seed` is {seed}; it must be from 0 to {MAX_SEED}, or -1 for a random one."
            raise RequestError("out_of_range", detail, field="seed")
        return seed

    def strength(self) -> float | None:
        """None for a request that starts from noise, which must not have a mask or a strength either."""
        is_from_picture = self.values.get("init_image") is not None
        for name, needed in (
            ("strength", "init_image"),
            ("mask", "init_image"),
            ("mask_selects", "mask"),
            ("mask_blur", "mask"),
        ):
            if self.values.get(name) is not None and self.values.get(needed) is None:
                detail = f"`{name}` has no effect without `{needed}`. Send `{needed}` too, or omit `{name}`."
                raise RequestError("unsupported_parameter", detail, field=name)
        has_mask = self.values.get("mask") is not None
        default = DEFAULT_STRENGTH_WITH_MASK if has_mask else DEFAULT_STRENGTH
        return self.number("strength", 0.0, 1.0, default) if is_from_picture else None

    def timeout(self) -> float | None:
        if self.values.get("timeout_s") is None:
            return None
        timeout_s = self.number("timeout_s", 0.0, MAX_TIMEOUT_S)
        if timeout_s == 0.0:
            raise RequestError("out_of_range", "`timeout_s` is 0; it must be above 0.", field="timeout_s")
        return timeout_s


def missing(name: str) -> RequestError:
    return RequestError("missing_input", f"`{name}` is required, but missing.", field=name)
