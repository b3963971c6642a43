# SPDX-License-Identifier: Apache-2.0
"""NVIDIA's aiperf, installed once into pytest's cache."""

from pathlib import Path

import pytest

from fastapi_triton.cli.perf import aiperf


@pytest.fixture(scope="session")
def aiperf_program(pytestconfig: pytest.Config) -> Path:
    folder = pytestconfig.cache.mkdir("aiperf")
    program = folder / "bin" / "aiperf"
    return program if program.is_file() else aiperf.install(folder)
