# SPDX-License-Identifier: Apache-2.0
"""`fastapi-triton check` on current Triton, and over files that are hard to read: it sees, and never falls over."""

import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fastapi_triton.cli.check.rule import Finding
from fastapi_triton.cli.check.runner import Subject, check
from fastapi_triton.cli.main import app
from support.paths import ROOT
from support.triton_with_processes import CURRENT, DIED, OLD, TritonWithProcesses, triton_with_processes

CONFIG = """
backend: "python" max_batch_size: 0
input { name: "text" data_type: TYPE_STRING dims: 1 }
output { name: "score" data_type: TYPE_FP32 dims: 1 }
parameters { key: "waive.no-dynamic-batching" value { string_value: "one at a time" } }
parameters { key: "waive.output-dims" value { string_value: "any shape" } }
"""


@pytest.fixture(params=[OLD, CURRENT])
async def triton(request: pytest.FixtureRequest) -> AsyncIterator[TritonWithProcesses]:
    async with triton_with_processes(request.param) as triton:
        yield triton


async def found(triton: TritonWithProcesses, *, has_trial: bool = False) -> dict[tuple[str, str], Finding]:
    findings = await check(Subject(triton=triton.url, has_trial=has_trial))
    return {(each.code, each.where): each for each in findings}


async def test_dead_process_is_found(triton: TritonWithProcesses) -> None:
    assert ("dead-stub", "echo") not in await found(triton, has_trial=True)
    triton.die()
    assert (("dead-stub", "echo") in await found(triton)) == (triton.version == CURRENT)
    assert ("dead-stub", "echo") in await found(triton, has_trial=True)


async def test_trial_that_fails_with_another_error_is_not_a_death(triton: TritonWithProcesses) -> None:
    triton.model_says = f"bad text: {DIED}"
    findings = await found(triton, has_trial=True)
    assert ("dead-stub", "echo") not in findings
    assert ("trial-refused", "echo") in findings


async def test_unloaded_model_is_not_reported_as_dead(triton: TritonWithProcesses) -> None:
    triton.is_loaded = False
    assert ("dead-stub", "echo") not in await found(triton)


@pytest.mark.parametrize("is_on", [True, False])
async def test_disabled_shared_memory_is_found(triton: TritonWithProcesses, *, is_on: bool) -> None:
    triton.has_shared_memory = is_on
    assert (("shared-memory-off", "Triton") in await found(triton)) != is_on


async def test_waivers_of_rules_that_did_not_run_are_not_reported_as_unused(triton: TritonWithProcesses) -> None:
    waived = ("no-dynamic-batching", "output-dims", "trial-refused", "slow-model", "config-differs")
    triton.parameters = {f"waive.{code}": {"string_value": "why"} for code in waived}
    details = [each.detail for each in await check(Subject(triton=triton.url)) if each.code == "waiver-unused"]
    assert details == ["waive.slow-model waives nothing", "waive.config-differs waives nothing"]


async def test_our_waivers_are_used_without_the_models_folder(triton: TritonWithProcesses) -> None:
    from fastapi_triton.triton import config_text

    raw = config_text.read(ROOT / "models" / "sdxl_scribble_controlnet_stream" / "config.pbtxt")
    triton.parameters = raw["parameters"]
    assert [each for each in await check(Subject(triton=triton.url)) if each.code.startswith("waiver")] == []


# ---- files


def checked(folder: Path) -> tuple[int, dict[str, Any]]:
    result = CliRunner().invoke(app, ["check", str(folder), "--json"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert "Traceback" not in result.output, result.output
    return result.exit_code, {each["code"]: each for each in json.loads(result.stdout)["findings"]}


@pytest.fixture
def version(tmp_path: Path) -> Path:
    folder = tmp_path / "models" / "mood" / "1"
    folder.mkdir(parents=True)
    (folder.parent / "config.pbtxt").write_text(CONFIG)
    return folder


DEEP = 100_000


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (b"def execute(:\n", "1/model.py: line 1: "),
        (b"x = 1\n\nx = = 2\n", "1/model.py: line 3: "),
        (b"x = " + b"[" * DEEP + b"]" * DEEP, "1/model.py: "),
        (b"x = " + b"-" * DEEP + b"1", "1/model.py: "),
        (b"x = 1" + b" + 1" * DEEP, "1/model.py: "),
        (b"x = a" + b".a" * 4 * DEEP, "1/model.py: "),  # Python 3.14 reads longer ones than its predecessors
        (b"x = f" + b"()" * DEEP, "1/model.py: "),
        (b"".join(b" " * n + b"if x:\n" for n in range(200)), "1/model.py: "),
        (b"\xff\xfe\x00", "1/model.py: "),
        (b"x = '\xe4'\n", "1/model.py: "),
        (b"# coding: nonsense\n", "1/model.py: "),
        (b"x = 1\x00\n", "1/model.py: "),
    ],
    ids=lambda each: None if isinstance(each, str) else repr(each[:12]),
)
def test_unreadable_python_file_is_named(version: Path, source: bytes, text: str) -> None:
    (version / "model.py").write_bytes(source)
    status, findings = checked(version.parent.parent)
    assert status == 1
    assert text in findings["unreadable-python"]["detail"]
    assert f"Python {sys.version_info.major}." in findings["unreadable-python"]["detail"]
    assert "output-not-returned" not in findings  # the unreadable file may return it
    assert "waive.output-dims" not in findings.get("waiver-unused", {}).get("detail", "")


def test_unreadable_helper_file_is_named(version: Path) -> None:
    (version / "model.py").write_text('import helper\nx = "score"\n')
    (version / "helper.py").write_text("def f(:\n")
    (version / "gone.py").symlink_to("nowhere.py")
    _, findings = checked(version.parent.parent)
    assert "unreadable-python" in findings


@pytest.mark.parametrize(
    "text", ["input {" * 5000, "[" * 5000, "parameters { key: " + "'" * 5000, "\x00", "a" * 100_000]
)
def test_unreadable_config_is_named(version: Path, text: str) -> None:
    (version / "model.py").write_text('x = "score"\n')
    (version.parent / "config.pbtxt").write_text(text)
    status, findings = checked(version.parent.parent)
    assert status == 1
    assert "unreadable-config" in findings
