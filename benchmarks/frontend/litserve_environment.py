# SPDX-License-Identifier: Apache-2.0
"""LitServe in a virtual environment of its own, since it would bring fifty packages into ours."""

import logging
import subprocess
import sys
from pathlib import Path

from benchmarks import ROOT

REQUIREMENT = "litserve==0.2.19"
FOLDER = ROOT / ".venv-litserve"

logger = logging.getLogger(__name__)


def python() -> Path:
    """Its interpreter; made where it is missing, which needs the network.

    Raises:
        CalledProcessError: it cannot be installed.
    """
    interpreter, stamp = FOLDER / "bin" / "python", FOLDER / REQUIREMENT
    if not stamp.exists():
        logger.info("installing %s into %s", REQUIREMENT, FOLDER)
        subprocess.run([sys.executable, "-m", "venv", str(FOLDER)], check=True)
        subprocess.run([str(interpreter), "-m", "pip", "install", "--quiet", REQUIREMENT], check=True)
        stamp.touch()
    return interpreter
