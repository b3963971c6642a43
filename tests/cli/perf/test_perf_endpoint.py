# SPDX-License-Identifier: Apache-2.0
"""`perf` of an endpoint's path, with a fake aiperf: its config, the records, the output, and invalid options."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from fastapi_triton.cli.main import app
from fastapi_triton.cli.perf import aiperf

# Reports ten requests per second, unless the path says which errors the requests have.
FAKE_AIPERF = """#!/usr/bin/env python3
import json, os, sys
_, _, config_path = sys.argv[1:]
benchmark = json.load(open(config_path))["benchmark"]
folder = benchmark["artifacts"]["dir"]
with open(__file__ + ".keys", "a") as keys:
    print(os.environ.get("FASTAPI_TRITON_KEY"), file=keys)
path = benchmark["endpoint"]["path"]
if "problem" in path or "text" in path:
    message = '{"detail": "no field `n`"}' if "problem" in path else "Connection refused"
    message = "ClientConnectorError(ConnectionKey(…))" if "gone" in path else message
    with open(folder + "/profile_export.jsonl", "w") as records:
        for _ in range(5):
            print(json.dumps({"error": {"code": 422, "message": message}}), file=records)
if "problem" in path or "crash" in path:
    sys.exit("Traceback: it broke")
figures = {"request_latency": {"p50": 90, "p95": 110, "p99": 120}, "request_throughput": {"avg": 10}}
if "text" in path:
    figures["error_request_count"] = {"avg": 2.0}
json.dump(figures, open(folder + "/profile_export_aiperf.json", "w"))
"""
GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"

Run = Callable[..., Result]


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "aiperf"
    path.write_text(FAKE_AIPERF)
    path.chmod(0o755)
    return path


@pytest.fixture
def run(tmp_path: Path, program: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.delenv(aiperf.KEY_VARIABLE, raising=False)

    def invoke(path: str, *arguments: str, request: Any = None, **environment: str) -> Result:
        (tmp_path / "request.json").write_text(json.dumps(request or {"prompt": "a house"}))
        options = ("--input", str(tmp_path / "request.json"), "--output", str(tmp_path / "out"))
        tool = () if "--aiperf" in arguments else ("--aiperf", str(program))
        return CliRunner().invoke(app, ["perf", path, *options, *tool, *arguments], env=environment)

    return invoke


def test_an_endpoint_is_measured_in_rounds(run: Run, tmp_path: Path) -> None:
    few = ("--frontend", "https://pictures.example:8443", "--concurrency", "4,1", "--rounds", "2", "--requests", "3")
    done = run("/models/a%20b/infer?arrays=npy", *few, request={"x": [1, 2]})
    assert done.exit_code == 0, done.output
    for figure in ("10.0", "90.0", "110", "120"):
        assert figure in done.output
    out = tmp_path / "out"
    name = "models-a-20b-infer-arrays-npy"
    runs = sorted(each.name for each in out.iterdir() if each.is_dir())
    assert runs == [f"{name}-{level}-{number}" for level in (1, 4) for number in (1, 2)]
    benchmark = json.loads((out / f"{name}-4-1" / "aiperf.json").read_text())["benchmark"]
    assert benchmark["endpoint"]["urls"] == ["https://pictures.example:8443"]
    assert (benchmark["endpoint"]["path"], benchmark["endpoint"]["type"]) == (
        "/models/a%20b/infer?arrays=npy",
        "template",
    )
    phases = [(each["name"], each["requests"], each["concurrency"]) for each in benchmark["phases"]]
    assert phases == [("warmup", 4, 4), ("profiling", 4, 4)]  # not fewer requests than run at once
    assert [each.get("excludeFromResults", False) for each in benchmark["phases"]] == [True, False]
    (record,) = map(json.loads, Path(benchmark["dataset"]["path"]).read_text().splitlines())
    assert record["extra"] == {"x": [1, 2]}
    results = json.loads((out / f"{name}-results.json").read_text())
    assert [len(each["frontend"]) for each in results["levels"]] == [2, 2]
    assert (out / f"{name}.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("path", "request_", "record"),
    [
        (GENERATIONS, {"prompt": "a house"}, {"text": "a house"}),
        (GENERATIONS, {"prompt": "a", "n": 2}, {"text": "a", "extra": {"n": 2}}),
        (EDITS, {"prompt": "a", "image": "aGk="}, {"text": "a", "image": "data:image/png;base64,aGk="}),
        (
            EDITS,
            {"prompt": "a", "image": "data:image/webp;base64,aGk="},
            {"text": "a", "image": "data:image/webp;base64,aGk="},
        ),
    ],
)
def test_openai_endpoints_get_prompt_and_image(run: Run, tmp_path: Path, path: str, request_: Any, record: Any) -> None:
    done = run(path, "--rounds", "1", "--concurrency", "1", request=request_)
    assert done.exit_code == 0, done.output
    name = path.strip("/").replace("/", "-")
    assert json.loads((tmp_path / "out" / f"{name}.jsonl").read_text()) == record
    benchmark = json.loads((tmp_path / "out" / f"{name}-1-1" / "aiperf.json").read_text())["benchmark"]
    assert benchmark["endpoint"]["type"] == ("image-edit" if path == EDITS else "image-generation")


def test_reports_of_an_earlier_run_are_removed(run: Run, tmp_path: Path) -> None:
    old = tmp_path / "out" / "v1-images-generations-1-1" / "old.json"
    old.parent.mkdir(parents=True)
    old.write_text("{}")
    assert run(GENERATIONS, "--rounds", "1", "--concurrency", "1").exit_code == 0
    assert not old.exists()


def test_the_key_reaches_aiperf_but_no_file(run: Run, program: Path, tmp_path: Path) -> None:
    assert run(GENERATIONS, "--rounds", "1", "--concurrency", "1", FASTAPI_TRITON_KEY="secret").exit_code == 0
    assert Path(f"{program}.keys").read_text() == "secret\n"
    config = (tmp_path / "out" / "v1-images-generations-1-1" / "aiperf.json").read_text()
    assert "secret" not in config
    assert "${FASTAPI_TRITON_KEY}" in config


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/problem", "aiperf failed against /problem:\n422: no field `n`\n"),
        ("/text", "2 requests failed:\n422: Connection refused\n"),
        ("/gone/problem", "aiperf failed against /gone/problem:\nThe frontend cannot be reached. Start it,"),
        ("/crash", "aiperf failed against /crash:\nTraceback: it broke\n"),
    ],
)
def test_failed_requests_end_the_command(run: Run, path: str, words: str) -> None:
    done = run(path, "--rounds", "1", "--concurrency", "1")
    assert done.exit_code == 1
    assert words in done.output


@pytest.mark.parametrize(
    ("path", "arguments", "request_", "words"),
    [
        (
            GENERATIONS,
            ("--triton", "http://t:1"),
            None,
            "--triton has no effect here: /v1/images/generations is an endpoint",
        ),
        (GENERATIONS, ("--batch-size", "2"), None, "--batch-size has no effect here"),
        ("echo", ("--key", "secret"), None, "has no effect here: echo is a model, for perf_analyzer"),
        ("a/b", ("--key", "secret"), None, "for an endpoint, write /a/b."),
        (GENERATIONS, ("--aiperf", "/nope"), None, "There is no aiperf at /nope."),
        (GENERATIONS, (), {"n": 1}, "Requests to /v1/images/generations need `prompt` as text."),
        (EDITS, (), {"prompt": "a"}, "Requests to /v1/images/edits need `image` as text."),
    ],
)
def test_invalid_options_are_rejected(run: Run, path: str, arguments: Any, request_: Any, words: str) -> None:
    done = run(path, *arguments, request=request_)
    assert done.exit_code == 2
    assert words in done.output


def test_without_aiperf_the_command_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(aiperf.PerfError, match="--install"):
        aiperf.find(None)
