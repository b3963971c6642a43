# SPDX-License-Identifier: Apache-2.0
"""Paths of the files that come with the package besides code. In a clone they are at its root."""

from pathlib import Path

_PACKAGE = Path(__file__).parent.parent
_BUNDLED = _PACKAGE / "bundled"
_CLONE = _PACKAGE.parent.parent


def app_folder() -> Path:
    """The folder with the `main.py` of the scribble app."""
    return _BUNDLED if _BUNDLED.is_dir() else _CLONE


def model_repository() -> Path:
    """The model repository of that app."""
    return app_folder() / "models"


def examples() -> Path:
    """The folder of example scribbles."""
    return _BUNDLED / "examples" if _BUNDLED.is_dir() else _CLONE / "demo" / "examples"
