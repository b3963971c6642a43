# SPDX-License-Identifier: Apache-2.0
"""LitServe in its own virtual environment, because it has fifty dependencies."""

import logging
import subprocess
import sys
from pathlib import Path

from benchmarks import ROOT

REQUIREMENT = "litserve==0.2.19"
FOLDER = ROOT / ".venv-litserve"

logger = logging.getLogger(__name__)


def python() -> Path:
    """The environment's interpreter. If it is missing, LitServe is installed, which needs the network.

    Raises:
        CalledProcessError: the installation failed.
    """
    interpreter, stamp = FOLDER / "bin" / "python", FOLDER / REQUIREMENT
    if not stamp.exists():
        logger.info("installing %s into %s", REQUIREMENT, FOLDER)
        subprocess.run([sys.executable, "-m", "venv", str(FOLDER)], check=True)
        subprocess.run([str(interpreter), "-m", "pip", "install", "--quiet", REQUIREMENT], check=True)
        stamp.touch()
    return interpreter
