# SPDX-License-Identifier: Apache-2.0
"""The GPU kit's runner: parts that crash, hang or do not fit cost no other part, and a killed run keeps its results."""

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks import ROOT
from benchmarks.gpu_kit.machine_check import Machine
from benchmarks.gpu_kit.part import PARTS, Part
from benchmarks.gpu_kit.part_process import PartProcesses
from benchmarks.gpu_kit.part_runner import PartRunner
from benchmarks.gpu_kit.plan import SDXL
from benchmarks.gpu_kit.results import PartResult, Results

# They start many processes that import torch, and take minutes.
pytestmark = pytest.mark.slow

RUN = ROOT / "benchmarks" / "gpu_kit" / "run"
GPU = Machine(python="3.12.3", torch="2.13.0", cuda="13.0", gpu="NVIDIA Small", total_gib=16.0, free_gib=12.0)
# Runs one part whose module is in the first folder of PYTHONPATH, and prints its messages.
ONE_PART = """
import json, sys, time
from benchmarks.gpu_kit.part import Part
from benchmarks.gpu_kit.part_process import PartProcesses
from benchmarks.gpu_kit.plan import TINY

class Other(Part):
    module = "other_part"

if __name__ == "__main__":
    other = Other(name="other", title="", decides="", seconds=0)
    processes = PartProcesses(TINY, ends_at=time.monotonic() + float(sys.argv[2]))
    print(json.dumps(list(processes.run(other, seconds=float(sys.argv[1])))))
"""


def messages(folder: Path, module: str, *, seconds: float, ends_after: float = 600) -> list[list[Any]]:
    """The messages of a part with this code."""
    (folder / "other_part.py").write_text(module)
    (folder / "one_part.py").write_text(ONE_PART)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", folder / "one_part.py", str(seconds), str(ends_after)],
        env={**os.environ, "PYTHONPATH": f"{folder}:{ROOT}"},
        stdout=subprocess.PIPE,
        check=True,
    )
    found: list[list[Any]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    ("module", "seconds", "reason"),
    [
        (
            "raise RuntimeError('CUDA error: an illegal memory access\\nmore')",
            60,
            "RuntimeError: CUDA error: an illegal memory access",
        ),
        (
            "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
            60,
            "Its process was ended by SIGKILL. The machine may lack memory.",
        ),
        ("import os\nos._exit(3)", 60, "Its process ended with status 3."),
        ("import threading\nthreading.Event().wait()", 1, "It was stopped after 1 s."),
    ],
    ids=["raises", "is killed", "exits", "hangs"],
)
def test_part_that_fails_is_reported(tmp_path: Path, module: str, seconds: float, reason: str) -> None:
    assert messages(tmp_path, module, seconds=seconds) == [["failed", reason]]


def test_part_is_stopped_when_the_time_for_everything_is_over(tmp_path: Path) -> None:
    module = "import threading\nthreading.Event().wait()"
    assert messages(tmp_path, module, seconds=60, ends_after=1) == [["failed", "It was stopped after 1 s."]]


@pytest.mark.parametrize(
    ("package", "reason"),
    [
        ("raise RuntimeError('built for another numpy')", "RuntimeError: built for another numpy"),
        ("import os\nos._exit(3)", "Its process ended with status 3."),
    ],
    ids=["raises", "exits"],
)
def test_package_that_cannot_be_imported_is_reported(tmp_path: Path, package: str, reason: str) -> None:
    (tmp_path / "diffusers.py").write_text(package)
    assert messages(tmp_path, "import diffusers", seconds=60) == [["failed", reason]]


def test_part_whose_process_was_forked_after_the_gpu_was_used_runs_in_a_new_one(tmp_path: Path) -> None:
    module = f"""
import pathlib, torch
seen = pathlib.Path({str(tmp_path)!r}) / "seen"
torch.cuda._is_in_bad_fork = lambda is_first=not seen.exists(): is_first
seen.touch()
def measure(bench):
    bench.row(what="measured")
"""
    assert messages(tmp_path, module, seconds=120) == [["row", {"what": "measured"}], ["done", None]]


@pytest.fixture
def results() -> Results:
    parts = [PartResult.of(part) for part in PARTS]
    return Results(machine=GPU, command="run", commit="abc", started="now", is_tiny=False, parts=parts)


def run_scripted(results: Results, page: Path, monkeypatch: pytest.MonkeyPatch, *, seconds: float) -> dict[str, float]:
    """Run parts that send one row and end. Returns the time limits of the parts that ran."""
    limits: dict[str, float] = {}

    def run(_: PartProcesses, part: Part, *, seconds: float) -> Iterator[tuple[str, Any]]:
        limits[part.name] = seconds
        yield "row", {"what": part.name, "ms": 12.345}
        yield ("failed", "It broke.") if part.name == "parity" else ("done", None)

    monkeypatch.setattr(PartProcesses, "run", run)
    runner = PartRunner(results, page, SDXL, ends_at=time.monotonic() + seconds, say=lambda _: None)
    runner.run(PARTS)
    return limits


def test_parts_that_need_more_memory_are_skipped_and_a_failed_part_ends_alone(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = run_scripted(results, tmp_path / "page.md", monkeypatch, seconds=10_000)
    assert set(limits) == {part.name for part in PARTS if part.memory_gib <= 12}
    states = {part["name"]: part for part in json.loads((tmp_path / "page.json").read_text())["parts"]}
    assert states["passes"]["reason"] == "needs 13 GiB of free GPU memory; NVIDIA Small has 12.0 GiB."
    assert (states["parity"]["status"], states["parity"]["rows"]) == ("failed", [{"what": "parity", "ms": 12.345}])
    assert states["served"]["status"] == "done"
    text = (tmp_path / "page.md").read_text()
    assert "NVIDIA Small with 16 GiB, CUDA 13.0; Python 3.12.3, torch 2.13.0; commit abc. `run`" in text
    assert "| parity | 12.3 |" in text
    assert "**failed: It broke.**" in text


def test_no_part_runs_beyond_the_time_for_everything(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results.machine = replace(GPU, free_gib=math.inf)
    assert run_scripted(results, tmp_path / "page.md", monkeypatch, seconds=5) == {}
    assert {part.status for part in results.parts} == {"skipped"}


def test_killed_run_keeps_the_finished_parts_and_leaves_no_process(tmp_path: Path) -> None:
    run = subprocess.Popen(
        [RUN, "--tiny", "--parts", "build,parity", "--out", tmp_path],
        env={"PATH": "/usr/bin:/bin", "PYTHON": sys.executable},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert run.stderr is not None
    with run, run.stderr:
        next(line for line in run.stderr if "build: done" in line)
        next(line for line in run.stderr if "loaded" in line)  # parity has begun
        processes = psutil.Process(run.pid).children(recursive=True)
        run.kill()
        _, alive = psutil.wait_procs(processes, timeout=60)
    assert len(processes) >= 2
    assert alive == []
    (data,) = tmp_path.glob("*.json")
    build, parity = json.loads(data.read_text())["parts"]
    assert (build["status"], len(build["rows"])) == ("done", 9)
    assert parity["status"] == "running"
    (page,) = tmp_path.glob("*.md")
    assert "| ControlNet |" in page.read_text()
    assert not list(tmp_path.glob(".*"))


def test_code_that_only_runs_on_a_gpu_starts_and_ends() -> None:
    parts = ["waits", "recovery", "vae", "idle", "growth", "attention", "kernels", "copies"]
    command = [sys.executable, "-m", "tests.support.pretended_gpu", *parts]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True)
    sent = [json.loads(line) for line in done.stdout.splitlines()]
    answered = [content["question"].split()[0] for kind, content in sent if kind == "decision"]
    # Q7 depends on the machine: only layers that take long count. No Q19: the profiler sees no GPU.
    assert [name for name in answered if name != "Q7"] == [
        "Q12",
        "Q9",
        "Q1",
        "Q14",
        "Q20",
        "Q5",
        "Q4",
        "Q8",
        "Q6",
        "Q3",
        "Q13",
    ]
