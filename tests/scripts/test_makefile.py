# SPDX-License-Identifier: Apache-2.0
"""The Makefile's list of tasks, and what its tasks start."""

import re
import subprocess

from support.bare_machine import Machine
from support.paths import ROOT


def test_make_alone_lists_every_task() -> None:
    listed = subprocess.run(["make", "-s"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    rules = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert re.findall(r"^  make ([a-z-]+) ", listed, flags=re.MULTILINE)[: len(rules)] == rules


def test_make_run_starts_the_embedded_triton_on_the_chosen_port(machine: Machine) -> None:
    machine.has("python3")
    subprocess.run(["make", "-s", "run", "PORT=9000"], cwd=machine.clone, env=machine.environment, check=True)
    assert machine.calls("serve") == ["python -m fastapi_triton serve --embedded --port 9000"]


def test_make_uses_the_chosen_python(machine: Machine) -> None:
    machine.has("python3.11")
    machine.has("python3.12")
    command = ["make", "-s", "run", "PYTHON=python3.12"]
    subprocess.run(command, cwd=machine.clone, env=machine.environment, check=True, capture_output=True)
    assert machine.calls("-m venv") == ["python3.12 -m venv .venv"]


def test_task_installs_its_extras_after_any_other_task(machine: Machine) -> None:
    machine.has("python3")
    for task in ("test", "test-cluster"):
        command = ["make", "-s", task]
        subprocess.run(command, cwd=machine.clone, env=machine.environment, check=True, capture_output=True)
    assert "cluster" not in machine.calls("pip install")[0]
    assert "cluster" in machine.calls("pip install")[1]
    assert machine.calls("-m pytest")[1].split("-m ")[2].strip() == "cluster"
