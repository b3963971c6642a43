# SPDX-License-Identifier: Apache-2.0
"""Rules for the checkpoint that the config of the picture engine names."""

import ast
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fastapi_triton.cli.check import named_files
from fastapi_triton.cli.check.repository import ModelFolder
from fastapi_triton.cli.check.rule import NOTE, WARNING, Rules

RULES: Rules[ModelFolder] = Rules()
_ENGINE = "diffusion_engine"
# The engine's parameters that name a folder, a file or something on the Hugging Face hub.
_WEIGHTS = ("checkpoint", "controlnet", "unet", "vae", "config", "preview_vae")
_SINGLE_FILE = ".safetensors"
# dtypes that mean float16 on a GPU.
_HALF = ("auto", "float16", "fp16", "half")
_SDXL_SIDE, _SDXL_CHANNELS = 1024, 128
# The most tensors of the picture's size, with the channels of the VAE's last layers, that decoding holds at once.
_DECODED_TENSORS = 6
_FLOAT32_BYTES = 4
_PICKLES = (".ckpt", ".pt", ".bin")


@RULES.add(
    "missing-checkpoint",
    WARNING,
    advice="Copy it there, or correct the name. Waive this if an environment variable of Triton names another.",
)
def missing_checkpoint(model: ModelFolder) -> Iterator[str]:
    """The engine loads files and folders without an owner beside its model.py, and no pickles."""
    if not _is_engine(model):
        return
    for key in _WEIGHTS:
        name = _parameter(model, key)
        if name.endswith(_PICKLES):
            yield f"the parameter {key} names the pickle {name}, which can run code; convert it to {_SINGLE_FILE}"
        elif name and not _may_be_elsewhere(name):
            for version in model.served_versions:
                path = named_files.joined(model.path / str(version), name)
                if not named_files.exists(path):
                    yield f"the parameter {key} names {name}, but there is no {version}/{name}"


@RULES.add(
    "vae-in-float32",
    NOTE,
    advice="Set vae_dtype to bfloat16 for NVIDIA GPUs since Ampere, or vae to a VAE made for float16, to halve this.",
)
def vae_in_float32(model: ModelFolder) -> Iterator[str]:
    """A VAE whose config sets `force_upcast` overflows in float16, so it runs in float32 on a GPU."""
    dtype = _parameter(model, "dtype").lower() or "auto"
    is_on_cpu = dtype == "auto" and _parameter(model, "device") == "cpu"
    is_chosen = _parameter(model, "vae_dtype") not in ("", "auto")
    if not _is_engine(model) or dtype not in _HALF or is_on_cpu or is_chosen:
        return
    checkpoint, vae = _parameter(model, "checkpoint") or "demo_checkpoint", _parameter(model, "vae")
    for version in model.served_versions:
        folder = model.path / str(version)
        name = f"{vae or f'{checkpoint}/vae'}/config.json"
        config = _json(folder / name)
        if config.get("_class_name") == "AutoencoderKL" and config.get("force_upcast", True):
            size = _default_size(_json(folder / checkpoint / "serving.json"))
            yield (
                f"{name} sets force_upcast: on a GPU the VAE runs in float32; decoding {size[0]}x{size[1]} takes "
                f"{_decoding_gib(config, size):.2g} GiB"
            )


def _decoding_gib(config: Mapping[str, Any], size: tuple[int, int]) -> float:
    """What the VAE needs in float32, in GiB, as the engine computes it with the real layers."""
    channels = config.get("block_out_channels")
    first = channels[0] if isinstance(channels, list) and channels and isinstance(channels[0], int) else _SDXL_CHANNELS
    return float(_DECODED_TENSORS * first * size[0] * size[1] * _FLOAT32_BYTES / 1024**3)


def _default_size(serving: Mapping[str, Any]) -> tuple[int, int]:
    """The default size of a checkpoint's serving.json; SDXL's if it has none."""
    defaults = serving.get("defaults")
    sides = [defaults.get(side) if isinstance(defaults, dict) else None for side in ("width", "height")]
    width, height = (side if isinstance(side, int) else _SDXL_SIDE for side in sides)
    return width, height


def _json(path: Path) -> dict[str, Any]:
    """The object in a file; an empty one if there is none."""
    if not named_files.is_file(path):
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _may_be_elsewhere(name: str) -> bool:
    """Whether it is a path on Triton's machine, or may be a name on the hub."""
    return name.startswith(("/", "~", ".")) or name.count("/") >= (2 if name.endswith(_SINGLE_FILE) else 1)


def _parameter(model: ModelFolder, name: str) -> str:
    given: Mapping[str, Mapping[str, Any]] = model.settings.get("parameters") or {}
    return str(given.get(name, {}).get("string_value", "")).strip()


def _is_engine(model: ModelFolder) -> bool:
    return model.is_python and any(_imports_engine(module) for module in model.modules)


def _imports_engine(module: ast.Module) -> bool:
    return any(
        isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == _ENGINE
        for node in ast.walk(module)
    )
