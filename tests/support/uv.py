# SPDX-License-Identifier: Apache-2.0
"""Installs many packages with uv, which needs a tenth of pip's time."""

import subprocess
import sys
from pathlib import Path


def install(python: Path, *packages: str) -> None:
    """Into the environment of this interpreter. uv ignores pip's settings."""
    subprocess.run([sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", python, *packages], check=True)
