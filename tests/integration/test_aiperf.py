# SPDX-License-Identifier: Apache-2.0
"""`fastapi-triton perf` with the real aiperf: it measures generated endpoints and OpenAI's."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.paths import ROOT
from support.serving import Server

pytestmark = [pytest.mark.integration, pytest.mark.slow]  # installs more than a hundred packages

HOUSE = ("--file", f"image={ROOT / 'demo' / 'examples' / 'house.png'}")


@pytest.mark.parametrize(
    ("path", "request_", "files"),
    [
        ("/v1/images/generations", {"prompt": "a red house", "num_inference_steps": 1}, ()),
        ("/v1/images/edits", {"prompt": "a red house", "num_inference_steps": 1}, HOUSE),
        ("/sdxl/scribble-controlnet/infer", {"prompt": "a red house", "num_inference_steps": 1}, HOUSE),
    ],
)
def test_aiperf_measures_an_endpoint(
    aiperf_program: Path, scribble_server: Server, tmp_path: Path, path: str, request_: Any, files: tuple[str, ...]
) -> None:
    (tmp_path / "request.json").write_text(json.dumps(request_))
    few = ("--concurrency", "2", "--rounds", "1", "--requests", "4", "--aiperf", str(aiperf_program))
    command = [sys.executable, "-m", "fastapi_triton", "perf", path, "--frontend", scribble_server.url, *few]
    options = ("--input", "request.json", *files, "--output", "out")
    done = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (results,) = (tmp_path / "out").glob("*-results.json")
    (level,) = json.loads(results.read_text())["levels"]
    (measured,) = level["frontend"]
    assert measured["inferences_per_s"] > 0
    assert 0 < measured["p50_ms"] <= measured["p99_ms"]


def test_a_refused_request_is_shown(aiperf_program: Path, scribble_server: Server, tmp_path: Path) -> None:
    (tmp_path / "request.json").write_text('{"prompt": "a red house", "steps": 1}')
    command = [sys.executable, "-m", "fastapi_triton", "perf", "/sdxl/scribble-controlnet/infer", "--rounds", "1"]
    options = ("--frontend", scribble_server.url, "--aiperf", str(aiperf_program), "--input", "request.json")
    done = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    assert "422: `image` is required, but missing. There is no field `steps`" in done.stderr
