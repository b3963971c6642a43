# SPDX-License-Identifier: Apache-2.0
"""NVIDIA's perf_analyzer, installed once into pytest's cache."""

import ctypes.util
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from fastapi_triton.cli.perf.analyzer import PACKAGES


@dataclass(frozen=True)
class PerfAnalyzer:
    binary: Path
    libraries: Path

    def run(self, *arguments: str) -> str:
        environment = {**os.environ, "LD_LIBRARY_PATH": str(self.libraries)}
        done = subprocess.run(
            [str(self.binary), *arguments], env=environment, capture_output=True, text=True, timeout=240, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="session")
def perf_analyzer(pytestconfig: pytest.Config) -> PerfAnalyzer:
    if platform.machine() != "x86_64":
        pytest.skip("needs x86-64: the wheel of perf_analyzer")
    if ctypes.util.find_library("b64") is None:
        pytest.skip("perf_analyzer needs libb64: apt-get install libb64-0d")
    folder = pytestconfig.cache.mkdir("perf_analyzer")
    binary = folder / "bin" / "perf_analyzer"
    if not binary.is_file():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), *PACKAGES]
        subprocess.run(command, check=True)
    return PerfAnalyzer(binary, folder / "nvidia" / "cuda_runtime" / "lib")
