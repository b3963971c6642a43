# SPDX-License-Identifier: Apache-2.0
"""Reads the folders of a model repository as plain data, without a server."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fastapi_triton.cli.check import ensemble_steps, python_files, versions
from fastapi_triton.cli.check.backend import Backend, Completion
from fastapi_triton.cli.check.python_files import PythonFile
from fastapi_triton.cli.check.tensor import Tensor, is_broken
from fastapi_triton.triton import config_text
from fastapi_triton.triton.model_config import ModelConfig, from_server

WAIVE = "waive."
_CONFIG = "config.pbtxt"


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """One model: its config as a server would return it (None if it is invalid, see `error`), and its Python files.

    `completion`: what the backend adds to the config when it loads the model. An ensemble `is_decoupled` if a step is.
    """

    name: str
    raw: Mapping[str, Any] | None
    error: str | None = None
    has_config_file: bool = True
    versions: tuple[int, ...] = ()
    path: Path = Path()
    is_decoupled: bool = False
    backend: Backend = field(default_factory=Backend)
    completion: Completion = field(default_factory=Completion)
    python_files: tuple[PythonFile, ...] = ()

    @property
    def config(self) -> ModelConfig | None:
        """The parsed config; None if there is no valid config.pbtxt."""
        if self.raw is None or not self.has_config_file or any(map(is_broken, self.tensors)):
            return None
        return replace(from_server(self.raw), decoupled=self.is_decoupled)

    @property
    def settings(self) -> Mapping[str, Any]:
        """The config, or an empty one."""
        return self.raw or {}

    @property
    def inputs(self) -> list[Tensor]:
        return list(self.settings.get("input", ()))

    @property
    def outputs(self) -> list[Tensor]:
        return list(self.settings.get("output", ()))

    @property
    def tensors(self) -> list[Tensor]:
        return [*self.inputs, *self.outputs]

    @property
    def max_batch_size(self) -> int:
        return int(self.settings.get("max_batch_size", 0))

    @property
    def modules(self) -> tuple[ast.Module, ...]:
        """The Python files. Empty if one of them cannot be read, because that one may create the model's outputs."""
        trees = [each.tree for each in self.python_files if each.tree is not None]
        return tuple(trees) if len(trees) == len(self.python_files) else ()

    @property
    def model_file(self) -> str:
        """The name of a Python model's file in its version folders."""
        return str(self.settings.get("default_model_filename") or "model.py")

    @property
    def is_python(self) -> bool:
        return self.backend.name == "python"

    @property
    def is_tensorrt(self) -> bool:
        return self.backend.platform == "tensorrt_plan"

    @property
    def is_ensemble(self) -> bool:
        return ensemble_steps.is_ensemble(self.settings)

    @property
    def served_versions(self) -> list[int]:
        """The versions that Triton loads."""
        return versions.served(self.versions, self.settings.get("version_policy"))

    @property
    def waivers(self) -> dict[str, str]:
        """Rule code → reason, from the config's `parameters`."""
        return waivers(self.settings)


def waivers(raw: Mapping[str, Any]) -> dict[str, str]:
    """Rule code → reason: `parameters { key: "waive.CODE" value { string_value: "reason" } }`."""
    return {
        key.removeprefix(WAIVE): str(value.get("string_value", "")).strip()
        for key, value in (raw.get("parameters") or {}).items()
        if key.startswith(WAIVE)
    }


def queue_policy(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """A config's `dynamic_batching.default_queue_policy`; empty if it has none."""
    return (raw.get("dynamic_batching") or {}).get("default_queue_policy") or {}


def read(repository: Path) -> list[ModelFolder]:
    """All models of the repository: every folder, except `.git`, `__pycache__` and the like without a config.pbtxt.

    Raises:
        ConfigTextError: a folder cannot be read, or the extra is not installed.
    """
    config_text.definitions()
    try:
        folders = [each for each in sorted(repository.iterdir()) if each.is_dir()]
        models = [_read_model(each) for each in folders if each.name[0] not in "._" or (each / _CONFIG).is_file()]
    except OSError as error:  # such as lost+found, which only root can enter
        raise config_text.ConfigTextError(f"{error.filename} cannot be read: {error.strerror}") from None
    decoupled = ensemble_steps.decoupled_models({each.name: each.settings for each in models})
    return [replace(each, is_decoupled=each.name in decoupled) for each in models]


def _read_model(folder: Path) -> ModelFolder:
    raw: dict[str, Any] | None = {"name": folder.name}
    error = None
    path = folder / _CONFIG
    if path.is_file():
        try:
            raw = config_text.read(path)
        except config_text.ConfigTextError as unreadable_config:
            raw, error = None, str(unreadable_config)
    model = ModelFolder(
        name=folder.name,
        raw=raw,
        error=error,
        has_config_file=path.is_file(),
        versions=versions.find(folder),
        path=folder,
        backend=Backend() if raw is None else Backend.of(raw, folder),
    )
    model = replace(model, python_files=python_files.read(folder, model.served_versions, model.model_file))
    return replace(model, completion=Completion.of(model.backend, model.modules))
