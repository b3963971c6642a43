# SPDX-License-Identifier: Apache-2.0
"""NVIDIA's perf_analyzer measures the public model as it is: plain requests, batches, strings from a JSON file."""

import base64
import ctypes.util
import json
import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from scribble_app import MODEL, ROOT
from serving import Server

pytestmark = pytest.mark.integration

# The last wheel of tritonclient that carries the binary; newer ones want perf-analyzer's own, for glibc >= 2.38.
PACKAGES = ("tritonclient==2.49.0", "nvidia-cuda-runtime-cu12==12.6.77")


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


@pytest.fixture(scope="module")
def perf_analyzer(pytestconfig: pytest.Config) -> PerfAnalyzer:
    if platform.machine() != "x86_64":
        pytest.skip("perf_analyzer's wheel is for x86-64")
    if ctypes.util.find_library("b64") is None:
        pytest.skip("perf_analyzer needs libb64: apt-get install libb64-0d")
    folder = pytestconfig.cache.mkdir("perf_analyzer")
    binary = folder / "bin" / "perf_analyzer"
    if not binary.is_file():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), *PACKAGES]
        subprocess.run(command, check=True)
    return PerfAnalyzer(binary, folder / "nvidia" / "cuda_runtime" / "lib")


@pytest.mark.parametrize("batch_size", [1, 4])
def test_perf_analyzer_measures_the_public_model(
    perf_analyzer: PerfAnalyzer, scribble_server: Server, tmp_path: Path, batch_size: int
) -> None:
    house = base64.b64encode((ROOT / "demo" / "examples" / "house.png").read_bytes()).decode()
    request = {"prompt": ["a red house"], "image": [house], "conditioning_scale": [1.0], "num_inference_steps": [1]}
    data = tmp_path / "data.json"
    data.write_text(json.dumps({"data": [request]}))
    report = perf_analyzer.run(
        *("-m", MODEL, "-u", scribble_server.triton_url, "-i", "http", "-b", str(batch_size)),
        *("--input-data", str(data), "--request-count", "4", "--concurrency-range", "2"),
    )
    assert re.search(r"Request count: 4\b", report), report
    assert re.search(rf"Inference count: {4 * batch_size}\b", report), report
