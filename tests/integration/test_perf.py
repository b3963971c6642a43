# SPDX-License-Identifier: Apache-2.0
"""`fastapi-triton perf` with the real perf_analyzer, Triton and frontend: the model receives the request's values."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from support.perf_analyzer import PerfAnalyzer
from support.serving import Server

pytestmark = pytest.mark.integration

TEXTS = ["hä🏠\n\x00", "", 'quoted "text"' * 3000]


@pytest.fixture
def requests(tmp_path: Path) -> Path:
    folder = tmp_path / "requests"
    folder.mkdir()
    for number, text in enumerate(TEXTS):
        (folder / f"{number}.json").write_text(json.dumps({"text": text}))
    return folder


def perf(server: Server, *arguments: str) -> subprocess.CompletedProcess[str]:
    where = ("--triton", f"http://{server.triton_url}", "--frontend", server.url)
    command = [sys.executable, "-m", "fastapi_triton", "perf", "echo", *where, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_triton_and_the_frontend_are_measured_side_by_side(
    perf_analyzer: PerfAnalyzer, echo_server: Server, requests: Path, tmp_path: Path
) -> None:
    few = ("--concurrency", "2", "--rounds", "1", "--requests", "3", "--window-ms", "50")
    output = tmp_path / "output"
    options = ("--input", str(requests), "--perf-analyzer", str(perf_analyzer.binary), "--output", str(output))
    done = perf(echo_server, *few, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the cost of the frontend" in done.stdout
    (level,) = json.loads((output / "echo-results.json").read_text())["levels"]
    for way in ("triton", "frontend"):
        (measured,) = level[way]
        assert measured["inferences_per_s"] > 0
        assert 0 < measured["p50_ms"] <= measured["p99_ms"]
    assert (output / "echo.svg").is_file()


def test_model_receives_the_values_of_the_request(
    perf_analyzer: PerfAnalyzer, echo_server: Server, requests: Path, tmp_path: Path
) -> None:
    done = perf(echo_server, "--input", str(requests), "--output", str(tmp_path), "--data-only")
    assert done.returncode == 0, done.stderr
    data = json.loads((tmp_path / "echo.json").read_text())
    address = echo_server.url.removeprefix("http://")

    def send(expected: list[object]) -> str:
        # perf_analyzer itself compares the echo with this.
        (tmp_path / "checked.json").write_text(json.dumps({**data, "validation_data": expected}))
        where = ("-m", "echo", "-u", address, "-i", "http", "-b", "1", "--input-data", str(tmp_path / "checked.json"))
        return perf_analyzer.run(*where, "--request-count", "6", "--concurrency-range", "1")

    assert "Request count: 6" in send(data["data"])
    with pytest.raises(AssertionError, match=r"Output .*doesn't match expected"):
        send(data["data"][::-1])
