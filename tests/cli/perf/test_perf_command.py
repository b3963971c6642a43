# SPDX-License-Identifier: Apache-2.0
"""The `perf` command with a fake perf_analyzer: its arguments, the output, and invalid options."""

import builtins
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from fastapi_triton.cli.main import app
from fastapi_triton.cli.perf import analyzer, tool
from fastapi_triton.cli.perf.comparison import Level, Spread, table
from fastapi_triton.core.errors import ModelNotReadyError, TritonUnavailableError
from fastapi_triton.triton.datatypes import BY_WIRE
from fastapi_triton.triton.http_client import HTTPTriton
from fastapi_triton.triton.model_config import ModelConfig, TensorConfig

REPORT = "Concurrency,Inferences/Second,Client Send,p50 latency,p90 latency,p95 latency,p99 latency"
# Records its arguments, and writes a report: 100 inferences per second from Triton, 80 through the frontend.
FAKE_ANALYZER = """#!/usr/bin/env python3
import json, sys
arguments = sys.argv[1:]
with open(__file__ + ".calls", "a") as calls:
    calls.write(json.dumps(arguments) + "\\n")
is_triton = arguments[arguments.index("-u") + 1] == "triton:8000"
with open(arguments[arguments.index("-f") + 1], "w") as report:
    print("REPORT", file=report)
    print("1,100,5,1000,2000,3000,4000" if is_triton else "1,80,5,1500,2500,3500,4500", file=report)
""".replace("REPORT", REPORT)
FAILING = """#!/usr/bin/env python3
import sys
print("Usage: perf_analyzer\\nfailed in the usage")
print("error: failed to get model metadata: no route", file=sys.stderr)
sys.exit(99)
"""
MISSING_LIBRARY = """#!/bin/sh
echo "perf_analyzer: error while loading shared libraries: libb64.so.0d: cannot open shared object file" >&2
exit 127
"""

Run = Callable[..., Result]


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    path = tmp_path / "perf_analyzer"
    path.write_text(FAKE_ANALYZER)
    path.chmod(0o755)
    return path


@pytest.fixture
def request_file(tmp_path: Path) -> Path:
    path = tmp_path / "request.json"
    path.write_text('{"text": "a"}')
    return path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, binary: Path, request_file: Path) -> Run:
    async def config(client: HTTPTriton, model: str) -> ModelConfig:
        if "down" in client.url:
            raise TritonUnavailableError("down")
        if model != "echo":
            raise ModelNotReadyError("unknown")
        return ModelConfig("echo", 8, (TensorConfig("text", BY_WIRE["BYTES"], (1,)),), ())

    monkeypatch.setattr(HTTPTriton, "config", config)
    monkeypatch.delenv("TRITON_URL", raising=False)

    def invoke(*arguments: str, model: str = "echo", **replaced: str) -> Result:
        options = {
            "--input": str(request_file),
            "--triton": "http://triton:8000",
            "--frontend": "http://frontend:8080",
            "--perf-analyzer": str(binary),
            "--output": str(tmp_path / "out"),
            **{f"--{name.replace('_', '-')}": value for name, value in replaced.items()},
        }
        return CliRunner().invoke(
            app, ["perf", model, *(part for pair in options.items() for part in pair), *arguments]
        )

    return invoke


def calls(binary: Path) -> list[dict[str, str]]:
    arguments = [json.loads(line) for line in Path(f"{binary}.calls").read_text().splitlines()]
    return [dict(zip(each[::2], each[1::2], strict=True)) for each in arguments]


def test_triton_and_the_frontend_are_measured_in_turn_and_compared(run: Run, binary: Path, tmp_path: Path) -> None:
    result = run(concurrency="4,1", rounds="2", batch_size="3", requests="7", window_ms="60")
    assert result.exit_code == 0, result.output
    recorded = calls(binary)
    assert [(each["-u"], each["--concurrency-range"]) for each in recorded] == [
        ("triton:8000", "1"),
        ("frontend:8080", "1"),
        ("triton:8000", "4"),
        ("frontend:8080", "4"),
    ] * 2
    expected = {"-m": "echo", "-i": "http", "-b": "3", "--measurement-request-count": "7", "-p": "60"}
    assert expected.items() <= recorded[0].items()
    assert json.loads(Path(recorded[0]["--input-data"]).read_text())["data"][0]["text"]["shape"] == [1]
    for words in ("100", "80.0", "-20%", "1.00", "1.50", "+0.50"):
        assert words in result.output
    results = json.loads((tmp_path / "out" / "echo-results.json").read_text())
    assert results["levels"][1]["frontend"][0] == {"inferences_per_s": 80, "p50_ms": 1.5, "p95_ms": 3.5, "p99_ms": 4.5}
    assert (tmp_path / "out" / "echo.svg").read_text().startswith("<?xml")


def test_without_matplotlib_only_the_plot_is_missing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without_matplotlib(name: str, *arguments: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ModuleNotFoundError(name)
        return real_import(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without_matplotlib)
    result = run(rounds="1", concurrency="1")
    assert result.exit_code == 0
    assert "pip install 'fastapi-triton[perf]'" in result.output
    assert not (tmp_path / "out" / "echo.svg").exists()


def test_the_data_alone_needs_no_binary(run: Run, tmp_path: Path) -> None:
    result = run("--data-only", perf_analyzer="/nope", frontend="http://down:8080")
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "out" / "echo.json").read_text())["data"]


@pytest.mark.parametrize(
    ("replaced", "words"),
    [
        ({"input": "/nope.json"}, "no file or folder /nope.json"),
        ({"model": "ech"}, "Triton at http://triton:8000 has no model ech."),
        ({"triton": "http://down:8000"}, "Triton at http://down:8000 does not respond"),
        ({"frontend": "http://down:8080"}, "the frontend at http://down:8080 does not respond"),
        ({"triton": "triton:8000"}, "does not have the form http://host:port"),
        ({"frontend": "ftp://frontend"}, "does not have the form http://host:port"),
        ({"concurrency": "1,x"}, "whole numbers with commas"),
        ({"concurrency": "0"}, "whole numbers with commas"),
        ({"file": "image"}, "form NAME=PATH"),
        ({"file": "txt=/dev/null"}, "/dev/null"),
        ({"perf_analyzer": "/nope"}, "no perf_analyzer at /nope"),
    ],
)
def test_invalid_options_exit_with_2_and_a_reason(run: Run, replaced: dict[str, str], words: str) -> None:
    result = run(**replaced)
    assert result.exit_code == 2
    assert words in result.output
    assert "Traceback" not in result.output


def test_an_unknown_input_is_reported_with_the_nearest_name(run: Run, tmp_path: Path) -> None:
    (tmp_path / "picture").write_bytes(b"x")
    result = run(file=f"txt={tmp_path / 'picture'}")
    assert (result.exit_code, "did you mean `text`" in result.output) == (2, True)


@pytest.mark.parametrize(
    ("script", "words"),
    [(FAILING, "failed to get model metadata: no route"), (MISSING_LIBRARY, "apt-get install libb64-0d")],
)
def test_a_failure_of_perf_analyzer_is_printed_without_its_usage(
    run: Run, binary: Path, script: str, words: str
) -> None:
    binary.write_text(script)
    result = run()
    assert result.exit_code == 1
    assert words in result.output
    assert "in the usage" not in result.output


def test_without_a_binary_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(tool.PerfError, match="--install") as raised:
        analyzer.find(None)
    for words in ("pip install perf-analyzer", "SDK container", "--perf-analyzer", str(tmp_path)):
        assert words in str(raised.value)


@pytest.mark.parametrize("folder", ["on the path", "beside python", "fastapi-triton/perf_analyzer/bin"])
def test_the_binary_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: str) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "on the path"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "beside python" / "python"))
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / "perf_analyzer").write_text(FAKE_ANALYZER)
    (tmp_path / folder / "perf_analyzer").chmod(0o755)
    assert analyzer.find(None) == tmp_path / folder / "perf_analyzer"


def test_costs_are_computed_per_round_and_shown_with_their_spread() -> None:
    level = Level(
        1,
        [tool.Measurement(100, 1, 1, 1), tool.Measurement(200, 2, 2, 2)],
        [tool.Measurement(90, 2, 1, 1), tool.Measurement(160, 5, 2, 2)],
    )
    cells = [list(column.cells) for column in table("echo", [level]).columns]
    assert cells[2] == ["150", "125", "-15%\n-20%..-10%"]
    assert cells[3] == ["1.50", "3.50", "+2.00\n+1.00..+3.00"]
    assert Spread.of([3.0]).text("{:.1f}".format) == "3.0"
