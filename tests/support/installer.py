# SPDX-License-Identifier: Apache-2.0
"""Installs packages into environments of single tests."""

import re
import subprocess
import sys
from pathlib import Path


def install(python: Path, *packages: str) -> None:
    """Into the environment of this interpreter: with uv, which needs a tenth of pip's time, or with pip if its settings
    replace PyPI, since uv ignores them.
    """
    pip = [sys.executable, "-m", "pip"]
    settings = subprocess.run([*pip, "config", "list"], capture_output=True, text=True, check=True).stdout
    if re.search(r"\.(index-url|no-index)=", settings):
        command = [*pip, "--python", str(python), "install"]
    else:
        command = [sys.executable, "-m", "uv", "pip", "install", "--python", str(python)]
    subprocess.run([*command, "--quiet", *packages], check=True)
