# SPDX-License-Identifier: Apache-2.0
"""What comes with the package besides code: app, model repository, examples. In a clone they lie at its root."""

from pathlib import Path

_PACKAGE = Path(__file__).parent.parent
_BUNDLED = _PACKAGE / "bundled"
_CLONE = _PACKAGE.parent.parent


def app_folder() -> Path:
    """The folder whose `main.py` is the scribble app."""
    return _BUNDLED if _BUNDLED.is_dir() else _CLONE


def model_repository() -> Path:
    """The model repository that goes with that app."""
    return app_folder() / "models"


def examples() -> Path:
    """Scribbles to try."""
    return _BUNDLED / "examples" if _BUNDLED.is_dir() else _CLONE / "demo" / "examples"
