# SPDX-License-Identifier: Apache-2.0
"""Python programs that use OpenAI's API through other packages, installed once into pytest's cache.

They have a hundred dependencies, so they have an environment of their own.
"""

import hashlib
import venv
from pathlib import Path

import pytest

from support import installer

PACKAGES = ("langchain-community==0.4.2", "litellm==1.110.2", "openai==3.57.0")


@pytest.fixture(scope="session")
def openai_clients(pytestconfig: pytest.Config) -> Path:
    """The interpreter of the environment."""
    folder = pytestconfig.cache.mkdir(f"openai-clients-{hashlib.sha256(repr(PACKAGES).encode()).hexdigest()[:8]}")
    stamp = folder / "installed"
    if not stamp.exists():
        venv.create(folder, clear=True)  # it may be half installed
        installer.install(folder / "bin" / "python", *PACKAGES)
        stamp.touch()
    return folder / "bin" / "python"
