# SPDX-License-Identifier: Apache-2.0
"""The engine's settings: the `parameters` of the model config, each overridden by SDXL_<NAME> in the environment."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

DTYPES = ("auto", "float16", "bfloat16", "float32")
SHORT_DTYPES = {"fp16": "float16", "half": "float16", "bf16": "bfloat16", "fp32": "float32"}


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """Where the weights come from and where they run. `controlnet` and `vae` empty: those inside the checkpoint."""

    checkpoint: str
    controlnet: str = ""
    vae: str = ""
    device: str = "auto"
    dtype: str = "auto"
    max_pixels: int = 50_000_000
    max_waiting: int = 64

    @classmethod
    def read(cls, parameters: Mapping[str, str], environ: Mapping[str, str], *, version_folder: Path) -> Self:
        """Checks every value once, so that a typing error is seen when the model loads, in one sentence."""

        def setting(name: str, default: str) -> str:
            from_environment = environ.get(f"SDXL_{name.upper()}", "").strip()
            return from_environment or parameters.get(name, "").strip() or default

        return cls(
            checkpoint=locate(setting("checkpoint", "demo_checkpoint"), version_folder),
            controlnet=locate(setting("controlnet", ""), version_folder),
            vae=locate(setting("vae", ""), version_folder),
            device=setting("device", "auto"),
            dtype=checked_dtype(setting("dtype", "auto")),
            max_pixels=checked_limit("max_pixels", setting("max_pixels", "50000000")),
            max_waiting=checked_limit("max_waiting", setting("max_waiting", "64")),
        )


def locate(name: str, version_folder: Path) -> str:
    """A folder beside `model.py`, else a folder anywhere, else the name itself, which is then a hub name."""
    if not name:
        return ""
    for folder in (version_folder / name, Path(name).expanduser()):
        if folder.is_dir():
            return str(folder.resolve())
    if name.startswith(("/", "~", ".")) or name.count("/") != 1:
        raise ValueError(
            f"{name!r} is neither a folder in {version_folder}, nor a folder, nor a hub name like owner/model"
        )
    return name


def checked_dtype(text: str) -> str:
    dtype = SHORT_DTYPES.get(text.lower(), text.lower())
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, not {text!r}")
    return dtype


def checked_limit(name: str, text: str) -> int:
    try:
        limit = int(text.replace("_", ""))
    except ValueError:
        raise ValueError(f"{name} must be a whole number, not {text!r}") from None
    if limit < 1:
        raise ValueError(f"{name} must be at least 1, not {limit}")
    return limit
