# SPDX-License-Identifier: Apache-2.0
"""NVIDIA's aiperf, installed once into pytest's cache."""

import venv
from pathlib import Path

import pytest

from fastapi_triton.cli.perf import aiperf
from support import installer


@pytest.fixture(scope="session")
def aiperf_program(pytestconfig: pytest.Config) -> Path:
    """As installed by the command, which uses pip. Pip finds all packages there already."""
    folder = pytestconfig.cache.mkdir("aiperf")
    program, stamp = folder / "bin" / "aiperf", folder / "installed"
    if not stamp.exists():
        venv.create(folder, with_pip=True, clear=True)  # it may be half installed
        installer.install(folder / "bin" / "python", aiperf.PACKAGE)
        assert aiperf.install(folder) == program
        stamp.touch()
    return program
