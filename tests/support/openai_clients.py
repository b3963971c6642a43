# SPDX-License-Identifier: Apache-2.0
"""Python programs that use OpenAI's API through other packages, installed once into pytest's cache.

They have a hundred dependencies, so they have an environment of their own.
"""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGES = ("langchain-community==0.4.2", "litellm==1.110.2", "openai==3.57.0")


@pytest.fixture(scope="session")
def openai_clients(pytestconfig: pytest.Config) -> Path:
    """The interpreter of the environment."""
    folder = pytestconfig.cache.mkdir(f"openai-clients-{hashlib.sha256(repr(PACKAGES).encode()).hexdigest()[:8]}")
    python, stamp = folder / "bin" / "python", folder / "installed"
    if not stamp.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
        stamp.touch()
    return python
