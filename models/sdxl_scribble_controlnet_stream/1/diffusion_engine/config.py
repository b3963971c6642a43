# SPDX-License-Identifier: Apache-2.0
"""The engine's settings: the `parameters` of the model config. Environment variables override each.

They have the prefix SDXL_, or that of the parameter `env_prefix`: several models may share an environment.
"""

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from diffusion_engine.capabilities import SINGLE_FILE
from diffusion_engine.pictures import MAX_SIDE
from diffusion_engine.presets import Presets, checked_presets
from diffusion_engine.step_scheduler import Policy
from diffusion_engine.suggestions import nearest

logger = logging.getLogger(__name__)

ENV_PREFIX = "SDXL_"
DTYPES = ("auto", "float16", "bfloat16", "float32")
SHORT_DTYPES = {"fp16": "float16", "half": "float16", "bf16": "bfloat16", "fp32": "float32"}


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """The weights, the device and the limits of an engine. An empty part is the checkpoint's own."""

    checkpoint: str
    unet: str = ""
    controlnet: str = ""
    vae: str = ""
    config: str = ""  # configs and tokenizers for a checkpoint in one file; empty: SDXL's
    preview_vae: str = ""  # a tiny VAE; empty: previews are a linear map of the latents
    device: str = "auto"
    dtype: str = "auto"
    vae_dtype: str = "auto"  # auto: `dtype`; float32 for a VAE that overflows in float16
    vae_tiling: bool | None = None  # None: if the GPU's memory is too small for whole pictures
    offload: str = "auto"  # auto, none or model: text encoders and VAE leave the GPU while they do not run
    defaults: Mapping[str, Any] = field(default_factory=dict)  # override the checkpoint's own
    loras: tuple[str, ...] = ()  # folders and hub names of adapters, beside the checkpoint's own
    lora_memory_mb: int = 1024  # of loaded adapters
    presets: Presets = field(default_factory=dict)  # beside the checkpoint's own
    is_channels_last: bool | None = None  # None: yes
    is_traced: bool | None = None  # None: if the UNet is small and on a CPU, unless compiled
    is_compiled: bool = False
    max_pixels: int = 50_000_000
    max_side: int = MAX_SIDE
    num_decoders: int = 2
    decode_timeout_s: float = 10.0
    max_requests: int = 64
    max_rows: int | None = None  # None: measured
    policy: Policy = Policy.FIRST_COME
    profile_folder: str = ""  # of the measured passes; empty: they are not kept
    profile_budget_s: float = 3.0

    @classmethod
    def read(cls, parameters: Mapping[str, str], environ: Mapping[str, str], *, version_folder: Path) -> Self:
        """Read and check all values, so that a wrong one fails when the model loads. Raises `ValueError`."""

        prefix = parameters.get("env_prefix", "").strip() or ENV_PREFIX

        known = []

        def setting(name: str, default: str) -> str:
            known.append(name)
            from_environment = environ.get(f"{prefix}{name.upper()}", "").strip()
            return from_environment or parameters.get(name, "").strip() or default

        config = cls(
            checkpoint=locate(setting("checkpoint", "demo_checkpoint"), version_folder),
            unet=locate(setting("unet", ""), version_folder),
            controlnet=locate(setting("controlnet", ""), version_folder),
            vae=locate(setting("vae", ""), version_folder),
            config=locate(setting("config", ""), version_folder, may_be_file=False),
            preview_vae=locate(setting("preview_vae", ""), version_folder, may_be_file=False),
            device=setting("device", "auto"),
            dtype=checked_dtype("dtype", setting("dtype", "auto")),
            vae_dtype=checked_dtype("vae_dtype", setting("vae_dtype", "auto")),
            vae_tiling=checked_choice("vae_tiling", setting("vae_tiling", "auto")),
            offload=checked_offload(setting("offload", "auto")),
            loras=located_loras(setting("loras", ""), version_folder),
            lora_memory_mb=checked_limit("lora_memory_mb", setting("lora_memory_mb", "1024")),
            defaults=checked_object("defaults", setting("defaults", "{}"), '{"num_inference_steps": 4}'),
            presets=checked_presets(
                checked_object("presets", setting("presets", "{}"), '{"fast": {"num_inference_steps": 4}}'), "presets"
            ),
            is_channels_last=checked_choice("channels_last", setting("channels_last", "auto")),
            is_traced=checked_choice("trace", setting("trace", "auto")),
            is_compiled=bool(checked_choice("compile", setting("compile", "no"))),
            max_pixels=checked_limit("max_pixels", setting("max_pixels", "50000000")),
            max_side=checked_limit("max_side", setting("max_side", str(MAX_SIDE))),
            num_decoders=checked_limit("decoders", setting("decoders", "2")),
            decode_timeout_s=float(checked_limit("decode_timeout_s", setting("decode_timeout_s", "10"))),
            max_requests=checked_limit("max_requests", setting("max_requests", "64")),
            max_rows=checked_max_rows(setting("max_rows", "auto")),
            policy=checked_policy(setting("policy", Policy.FIRST_COME)),
            profile_folder=setting("profile_folder", ""),
            profile_budget_s=float(checked_limit("profile_budget_s", setting("profile_budget_s", "3"))),
        )
        warn_of_typos(environ, prefix, known)
        return config


def warn_of_typos(environ: Iterable[str], prefix: str, known: list[str]) -> None:
    """Variables that resemble a parameter's. Others may belong to another model or program."""
    for variable in environ:
        name = variable.removeprefix(prefix).lower()
        if variable.startswith(prefix) and name not in known and (suggestion := nearest(name, known)):
            logger.warning("%s is ignored: there is no parameter %s%s", variable, name, suggestion)


def locate(name: str, version_folder: Path, *, may_be_file: bool = True) -> str:
    """The path of a folder or a file, beside `model.py` or anywhere; else the name itself if it can be a hub name."""
    if not name:
        return ""
    is_file = name.endswith(SINGLE_FILE)
    if is_file and not may_be_file:
        raise ValueError(f"{name!r} is a file; set the folder or hub name of a checkpoint in diffusers' format")
    if name.endswith((".ckpt", ".pt", ".bin")):
        raise ValueError(f"{name!r} is a pickle, which can run code; convert it to {SINGLE_FILE}")
    for path in (version_folder / name, at_home(name)):
        if path.is_file() if is_file else path.is_dir():
            return str(path.absolute() if is_file else path.resolve())  # links in the hub's cache lose the file's name
    if name.startswith(("/", "~", ".")) or (name.count("/") < 2 if is_file else name.count("/") != 1):
        kind, example = ("file", "owner/model/file.safetensors") if is_file else ("folder", "owner/model")
        raise ValueError(
            f"{name!r} is neither a {kind}, alone or in {version_folder}, nor a hub name such as {example}"
        )
    return name


def located_loras(text: str, version_folder: Path) -> tuple[str, ...]:
    """The folders and hub names of a list with commas. `owner/model/file.safetensors` is a single file of the hub."""
    sources = []
    for name in filter(None, (each.strip() for each in text.split(","))):
        is_file = name.count("/") >= 2 and name.endswith(".safetensors") and not name.startswith(("/", "~", "."))
        sources.append(name if is_file else locate(name, version_folder))
    return tuple(sources)


def at_home(name: str) -> Path:
    """The path with `~` expanded. Raises `ValueError` if the user has no home folder."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        raise ValueError(f"{name!r} needs a home folder, and this user has none; set an absolute path") from None


def checked_object(name: str, text: str, example: str) -> Mapping[str, Any]:
    try:
        content = json.loads(text)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise ValueError(f"{name} is {text!r}; it must be a JSON object such as {example}")
    return content


def checked_choice(name: str, text: str) -> bool | None:
    choices = {"yes": True, "no": False, "auto": None}
    if text not in choices:
        raise ValueError(f"{name} is {text!r}; it must be yes, no or auto")
    return choices[text]


def checked_max_rows(text: str) -> int | None:
    return None if text == "auto" else checked_limit("max_rows", text)


def checked_policy(text: str) -> Policy:
    try:
        return Policy(text)
    except ValueError:
        raise ValueError(f"policy is {text!r}; it must be one of {', '.join(Policy)}") from None


def checked_offload(text: str) -> str:
    if text not in ("auto", "none", "model"):
        raise ValueError(f"offload is {text!r}; it must be auto, none or model")
    return text


def checked_dtype(name: str, text: str) -> str:
    dtype = SHORT_DTYPES.get(text.lower(), text.lower())
    if dtype not in DTYPES:
        raise ValueError(f"{name} is {text!r}; it must be one of {', '.join(DTYPES)}")
    return dtype


def checked_limit(name: str, text: str) -> int:
    try:
        limit = int(text.replace("_", ""))
    except ValueError:
        raise ValueError(f"{name} is {text!r}; it must be a whole number") from None
    if limit < 1:
        raise ValueError(f"{name} is {limit}; it must be at least 1")
    return limit
