# SPDX-License-Identifier: Apache-2.0
"""Rules for the checkpoint that the config of the picture engine names."""

import ast
from collections.abc import Iterator, Mapping
from typing import Any

from fastapi_triton.cli.check import named_files
from fastapi_triton.cli.check.repository import ModelFolder
from fastapi_triton.cli.check.rule import WARNING, Rules

RULES: Rules[ModelFolder] = Rules()
_ENGINE = "diffusion_engine"
# The engine's parameters that name a folder, a file or something on the Hugging Face hub.
_WEIGHTS = ("checkpoint", "controlnet", "unet", "vae", "config", "preview_vae")
_SINGLE_FILE = ".safetensors"
_PICKLES = (".ckpt", ".pt", ".bin")


@RULES.add(
    "missing-checkpoint",
    WARNING,
    advice="Copy it there, or correct the name. Waive this if an environment variable of Triton names another.",
)
def missing_checkpoint(model: ModelFolder) -> Iterator[str]:
    """The engine loads files and folders without an owner beside its model.py, and no pickles."""
    if not model.is_python or not any(_imports_engine(module) for module in model.modules):
        return
    given: Mapping[str, Mapping[str, Any]] = model.settings.get("parameters") or {}
    for key in _WEIGHTS:
        name = str(given.get(key, {}).get("string_value", "")).strip()
        if name.endswith(_PICKLES):
            yield f"the parameter {key} names the pickle {name}, which can run code; convert it to {_SINGLE_FILE}"
        elif name and not _may_be_elsewhere(name):
            for version in model.served_versions:
                path = named_files.joined(model.path / str(version), name)
                if not named_files.exists(path):
                    yield f"the parameter {key} names {name}, but there is no {version}/{name}"


def _may_be_elsewhere(name: str) -> bool:
    """Whether it is a path on Triton's machine, or may be a name on the hub."""
    return name.startswith(("/", "~", ".")) or name.count("/") >= (2 if name.endswith(_SINGLE_FILE) else 1)


def _imports_engine(module: ast.Module) -> bool:
    return any(
        isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == _ENGINE
        for node in ast.walk(module)
    )
