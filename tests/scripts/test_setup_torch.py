# SPDX-License-Identifier: Apache-2.0
"""Which build of PyTorch `scripts/setup` installs, and what it says before the download."""

import re

import pytest

from support.bare_machine import UV_OFFLINE, Machine
from support.paths import ROOT

TORCH = re.search(r'"(torch==[\d.]+)', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))[1]  # type: ignore[index]


def test_without_a_gpu_pytorchs_build_for_the_cpu_is_installed_first(machine: Machine) -> None:
    machine.has("python3")
    done = machine.setup(NO_TORCH="yes")
    assert done.returncode == 0, done.stderr
    assert "no NVIDIA GPU: installing PyTorch's build for the CPU, a download of 0.2 GB" in done.stderr.splitlines()[0]
    (call,) = machine.calls("uv pip install")
    assert call == f"uv pip install --python .venv/bin/python --no-deps --torch-backend=cpu {TORCH}"
    assert machine.calls("pip install")[-1].endswith("-e .[embedded]")


def test_with_a_gpu_uv_chooses_the_build_for_the_driver(machine: Machine) -> None:
    machine.has("python3")
    done = machine.setup(NO_TORCH="yes", HAS_GPU="yes")
    assert "NVIDIA GPU: installing PyTorch's build for CUDA, a download of 2.7 GB" in done.stderr.splitlines()[0]
    assert "Ctrl-C" not in done.stderr
    assert machine.calls("--torch-backend=auto") != []


@pytest.mark.parametrize(("gpu", "build"), [("", "cpu"), ("yes", "cuda")])
def test_a_disk_that_is_too_small_for_the_build_is_reported_before_the_download(
    machine: Machine, gpu: str, build: str
) -> None:
    machine.has("python3")
    done = machine.setup(NO_TORCH="yes", HAS_GPU=gpu, FULL_FOR=build)
    assert (done.returncode, done.stderr) == (1, "The disk is too small.\n")
    assert machine.calls("pip install") == []


def test_if_pytorchs_index_cannot_be_reached_pip_installs_it_and_the_download_is_announced(machine: Machine) -> None:
    machine.has("python3")
    done = machine.setup(NO_TORCH="yes", UV_ERROR=UV_OFFLINE)
    assert done.returncode == 0
    _, failed, advice, _ = done.stderr.splitlines()
    assert failed.startswith("That failed: the network does not reach https://builds.example")
    assert failed.endswith("pip installs the build for CUDA instead, a download of 2.7 GB.")
    assert f"`.venv/bin/pip install uv && .venv/bin/uv pip install --torch-backend=cpu {TORCH}`" in advice
    full = machine.setup("dev", NO_TORCH="yes", UV_ERROR=UV_OFFLINE, FULL_FOR="cuda")
    assert full.returncode == 1
    assert full.stderr.splitlines()[-1] == "The disk is too small."


@pytest.mark.parametrize("setting", ["index-url", "extra-index-url", "find-links"])
def test_pips_own_settings_choose_the_build(machine: Machine, setting: str) -> None:
    machine.has("python3")
    done = machine.setup(NO_TORCH="yes", PIP_CONFIG=f":env:.{setting}='https://index.example'")
    assert done.returncode == 0
    assert done.stderr.startswith("pip's own settings choose the build of PyTorch. The build for CUDA is")
    assert "press Ctrl-C" in done.stderr
    assert machine.calls("uv pip install") == []


def test_a_wheel_of_pytorch_on_the_disk_is_installed_without_a_word(machine: Machine) -> None:
    machine.has("python3")
    done = machine.setup(NO_TORCH="yes", PIP_CONFIG=":env:.find-links='/wheels'", HAS_WHEEL="yes")
    (line,) = done.stderr.splitlines()
    assert line.startswith("Installing fastapi-triton[embedded]")
    assert machine.calls("uv pip install") == []


def test_an_installed_pytorch_stays(machine: Machine) -> None:
    machine.has("python3")
    machine.setup()
    assert machine.calls("uv") == []
    assert machine.calls("preflight.py gpu") == []
