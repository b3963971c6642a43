# SPDX-License-Identifier: Apache-2.0
"""Finds the Triton of the nvidia-pytriton wheel, checks whether this machine can run it, and makes its work folder."""

import importlib.util
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from fastapi_triton.embedded import preflight

_TMP = "/tmp"  # noqa: S108


class EmbeddedTritonError(Exception):
    """This machine cannot run the embedded Triton. The text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Installation:
    """The paths of the wheel's parts."""

    server: Path
    backends: Path
    stub: Path
    libraries: Path

    @classmethod
    def find(cls) -> Self:
        """Find the wheel without importing it.

        Raises:
            EmbeddedTritonError: the wheel is not installed.
        """
        spec = importlib.util.find_spec("pytriton")
        if spec is None or spec.origin is None:
            raise EmbeddedTritonError(
                "The embedded Triton is not installed. Install it with: pip install 'fastapi-triton[embedded]'"
            )
        package = Path(spec.origin).parent
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        root = package / "tritonserver"
        return cls(
            server=root / "bin" / "tritonserver",
            backends=root / "backends",
            stub=root / "python_backend_stubs" / version / "triton_python_backend_stub",
            libraries=package.parent / "nvidia_pytriton.libs",
        )


def require_machine() -> Path:
    """Check that this machine can run the embedded Triton. Returns the path of the shared libpython.

    Raises:
        EmbeddedTritonError: it cannot; the text lists every reason.
    """
    _require_writable(_TMP, "Triton's Python backend writes to /tmp and ignores TMPDIR")
    try:
        folder = tempfile.gettempdir()
    except FileNotFoundError:
        raise EmbeddedTritonError("There is no folder for temporary files. Set TMPDIR to a writable folder.") from None
    _require_writable(folder, f"Triton's work folder is made in {folder} (set TMPDIR to change it)")
    facts = preflight.gather(Path(folder))
    obstacles = preflight.obstacles(facts, context="embedded")
    if obstacles or facts.libpython is None:
        raise EmbeddedTritonError("\n".join(obstacle.sentence for obstacle in obstacles))
    return Path(facts.libpython)


def make_work_folder(installation: Installation, model_repository: Path) -> Path:
    """Make a folder of links whose path has no space. The guard removes it."""
    folder = Path(tempfile.mkdtemp(prefix="fastapi-triton-", dir=_without_space(tempfile.gettempdir())))
    backend = folder / "backends" / "python"
    backend.mkdir(parents=True)
    for part in (installation.backends / "python").iterdir():
        (backend / part.name).symlink_to(part)
    (backend / installation.stub.name).symlink_to(installation.stub)
    (folder / "models").symlink_to(model_repository)
    return folder


def _without_space(folder: str) -> str:
    """The folder, or /tmp if it has a space: this Triton's Python backend aborts on a path with a space."""
    return _TMP if " " in folder else folder


def _require_writable(folder: str, why: str) -> None:
    try:
        tempfile.TemporaryDirectory(prefix="fastapi-triton-", dir=_without_space(folder)).cleanup()
    except OSError as error:
        raise EmbeddedTritonError(
            f"{why}, but it is not writable ({error.strerror or error}). If the container's file system is read-only, "
            "mount a writable folder there (`docker run --tmpfs /tmp`, or an `emptyDir` in Kubernetes)."
        ) from None
