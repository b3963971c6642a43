# SPDX-License-Identifier: Apache-2.0
"""The backend of a model: how Triton derives it from the config and the files, and what it adds to the config."""

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Known:
    """A backend that Triton derives. `is_folder`: whether the model file is a folder; None: it may be one."""

    backend: str
    platform: str
    filename: str
    is_folder: bool | None = None

    def fits(self, platform: str, filename: str, files: Mapping[str, bool]) -> bool:
        """Whether a model is of this kind. `files`: the names in its first folder → whether it is a folder."""
        if platform:
            return platform == self.platform or (filename == self.filename and self.backend != _TENSORFLOW)
        if filename:
            return filename == self.filename
        return self.filename in files and self.is_folder in (None, files[self.filename])


_TENSORFLOW = "tensorflow"
# In Triton's order.
KNOWN = (
    Known(_TENSORFLOW, "tensorflow_graphdef", "model.graphdef", is_folder=False),
    Known(_TENSORFLOW, "tensorflow_savedmodel", "model.savedmodel", is_folder=True),
    Known("tensorrt", "tensorrt_plan", "model.plan", is_folder=False),
    Known("onnxruntime", "onnxruntime_onnx", "model.onnx"),
    Known("openvino", "", "model.xml"),
    Known("pytorch", "pytorch_libtorch", "model.pt", is_folder=False),
    Known("pytorch", "libtorch", "model.pt", is_folder=False),  # this and the next one are newer than Triton 2.51
    Known("pytorch", "torch_aoti", "model.pt2", is_folder=False),
    Known("python", "", "model.py"),
)


@dataclass(frozen=True, slots=True)
class Backend:
    """The backend and the platform that a model has once Triton has completed its config; "" if there is none."""

    name: str = ""
    platform: str = ""

    @classmethod
    def of(cls, raw: Mapping[str, Any], folder: Path) -> "Backend":
        """Derive them from the config and, if it names neither them nor a file, from the files."""
        name, platform, filename = (str(raw.get(key, "")) for key in ("backend", "platform", "default_model_filename"))
        files = _files(folder)
        fitting = [known for known in KNOWN if name in ("", known.backend) and known.fits(platform, filename, files)]
        if not name and fitting:
            name = fitting[0].backend
        if not platform and name == _TENSORFLOW:
            platform = fitting[0].platform if fitting else ""
        elif not platform:
            platform = next((known.platform for known in KNOWN if known.backend == name), "")
        if not (name or platform or filename):
            name = folder.name.partition(".")[2]
        return cls(name, platform)

    @property
    def expected_platforms(self) -> tuple[str, ...]:
        """The platforms of a backend that Triton knows. Others may have any."""
        return tuple(known.platform for known in KNOWN if known.backend == self.name and known.platform)

    @property
    def filename(self) -> str:
        """The name of a model file of this backend, unless the config has another one; "" if Triton has no rule."""
        fitting = (known for known in KNOWN if (known.backend, known.platform) == (self.name, self.platform))
        return next((known.filename for known in fitting), "")


def _files(folder: Path) -> dict[str, bool]:
    """The names in the folder that Triton looks into: the first one by name. The value: whether it is a folder."""
    folders = sorted(each for each in folder.iterdir() if each.is_dir())
    return {each.name: each.is_dir() for each in folders[0].iterdir()} if folders else {}


@dataclass(frozen=True, slots=True)
class Completion:
    """What a backend adds to the config.

    Args:
        sides: all inputs, if the config has none, and all outputs likewise.
        tensors: missing fields of tensors that the config names.
        batch_size: `max_batch_size`.
    """

    sides: bool = False
    tensors: bool = False
    batch_size: bool = False

    @classmethod
    def of(cls, backend: Backend, modules: Iterable[ast.Module]) -> "Completion":
        """What the backend adds. A Python model adds what its `auto_complete_config` says."""
        if backend.name == "python":
            return _ALL if _may_complete(modules) else _NOTHING
        if backend.platform == "ensemble":
            return _NOTHING
        return _BY_BACKEND.get(backend.name, _UNKNOWN)


_NOTHING, _ALL = Completion(), Completion(sides=True, tensors=True, batch_size=True)
_UNKNOWN = Completion(sides=True)
_BY_BACKEND = {
    "onnxruntime": Completion(sides=True, batch_size=True),
    "openvino": Completion(sides=True, batch_size=True),
    "tensorrt": _ALL,
    _TENSORFLOW: _ALL,
    "dali": _ALL,
    "pytorch": _NOTHING,
}


def _may_complete(modules: Iterable[ast.Module]) -> bool:
    """Whether the model may have `auto_complete_config`: in its source, or by a base class that the source imports."""
    nodes = [node for module in modules for node in ast.walk(module)]
    if any(isinstance(node, ast.FunctionDef) and node.name == "auto_complete_config" for node in nodes):
        return True
    models = [node for node in nodes if isinstance(node, ast.ClassDef) and node.name == "TritonPythonModel"]
    bases = [base for model in models for base in model.bases]
    return not models or any(not isinstance(base, ast.Name) or base.id != "object" for base in bases)
