# SPDX-License-Identifier: Apache-2.0
"""The GPU kit on a machine that it cannot measure: one sentence before anything is measured. PyTorch is a stand-in."""

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from benchmarks import ROOT
from benchmarks.gpu_kit import __main__ as command
from benchmarks.gpu_kit import packages
from benchmarks.gpu_kit.part import PARTS

RUN = ROOT / "benchmarks" / "gpu_kit" / "run"
TORCH = """
from types import SimpleNamespace
__version__ = "2.13.0"
version = SimpleNamespace(cuda={cuda!r})
def init():
    {init}
class Ones:
    def __init__(self, *_, **__): ...
    def sum(self): return self
    def item(self): return {item}
ones = Ones
cuda = SimpleNamespace(
    init=init,
    get_device_properties=lambda _: SimpleNamespace(name="NVIDIA Small"),
    get_device_capability=lambda _: {capability},
    get_arch_list=lambda: ["sm_75", "sm_80", "sm_90", "compute_90"],
    mem_get_info=lambda _: ({free_gib} * 2**30, 2 * {free_gib} * 2**30),
)
"""
TOO_OLD = (
    "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver by downloading "
    "and installing a new version."
)
USABLE = {"cuda": "13.0", "init": "pass", "item": "8.0", "capability": (9, 0), "free_gib": 70}


def refused(*arguments: object, **environment: str) -> str:
    """The one line of a run that ends at once."""
    done = subprocess.run(
        [RUN, *map(str, arguments)],
        env={"PATH": "/usr/bin:/bin", "PYTHON": sys.executable, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line


@pytest.mark.parametrize(
    ("differs", "says"),
    [
        ({"cuda": None}, r"^This PyTorch \(2.13.0\) is built without CUDA; .*--tiny\.$"),
        ({"init": f"raise RuntimeError({TOO_OLD!r})"}, "driver on your system is too old .found version 11040"),
        ({"init": "raise RuntimeError('No CUDA GPUs are available')"}, r"^PyTorch cannot use a GPU here: No CUDA GPUs"),
        ({"capability": (6, 1)}, r"^NVIDIA Small has compute capability 6.1; this PyTorch needs 7.5 or newer"),
        ({"item": "1 / 0"}, "does not start: ZeroDivisionError"),
        ({"free_gib": 2}, r"^NVIDIA Small has 2.0 GiB of free memory; the smallest part needs 3 GiB\.$"),
    ],
)
def test_unusable_gpu_is_named_before_anything_is_measured(
    tmp_path: Path, differs: dict[str, object], says: str
) -> None:
    (tmp_path / "torch.py").write_text(TORCH.format(**{**USABLE, **differs}))
    assert re.search(says, refused("--out", tmp_path / "out", PYTHONPATH=str(tmp_path)))
    assert list((tmp_path / "out").iterdir()) == []


def test_missing_pytorch_is_named(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError('No module named torch', name='torch')")
    line = refused("--tiny", "--out", tmp_path, PYTHONPATH=str(tmp_path))
    assert line == f"{sys.executable} has no PyTorch; name a Python that has it with PYTHON=..."


def test_python_that_is_too_old_is_named(tmp_path: Path) -> None:
    old = tmp_path / "python3.9"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.1" && exit\nexit 1\n')
    old.chmod(0o755)
    line = refused(PYTHON=str(old))
    assert line.startswith(f"{old} is Python 3.9.1; the kit needs Python 3.11 or newer")


def test_unknown_part_is_named() -> None:
    assert refused("--parts", "passes,speed").startswith("--parts names speed; the parts are build, passes,")


def test_parts_run_in_the_order_in_which_they_are_named() -> None:
    names = [part.name for part in command.chosen("vae,decisions,build,vae")]
    assert names[:2] + names[-1:] == ["vae", "waits", "build"]
    assert len(names) == len(set(names)) == 11
    assert command.chosen("") == PARTS


def test_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert refused("--out", tmp_path / "file" / "out") == f"{tmp_path}/file/out cannot be written: Not a directory."


def test_out_is_taken_from_the_environment(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert refused(OUT=str(tmp_path / "file" / "out")).startswith(f"{tmp_path}/file/out cannot be written")


def test_full_disk_is_named(tmp_path: Path) -> None:
    problem = command.folder_problem(tmp_path, 10**18)
    assert re.fullmatch(rf"The disk of {tmp_path} has \d+ MB free; 1000000000000 MB are needed\.", problem)


def test_all_missing_packages_are_named_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "packages.txt"
    file.write_text("# a comment\nnumpy>=1.0\nno-such-package\npillow>=1000.1\nnor-this>=2\n")
    monkeypatch.setattr(packages.missing, "__defaults__", (file,))
    monkeypatch.setattr(packages, "NEEDED", file)
    monkeypatch.setattr(packages, "WHEELS", ROOT / "no" / "wheels")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", "")
    problem = command.install_packages(tmp_path)
    pillow = importlib.metadata.version("pillow")
    assert (
        f": no-such-package, pillow {pillow} (1000.1 or newer), nor-this. On a machine with internet, run "
        "`benchmarks/gpu_kit/wheels 3." in problem
    )
    assert " --only no-such-package,nor-this,pillow`" in problem
    assert "numpy" not in problem


def test_wheel_that_cannot_be_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "no_such_package-1.0-cp39-cp39-win_amd64.whl").write_bytes(b"not a wheel")
    need(monkeypatch, tmp_path, "no-such-package\n", wheels)
    problem = packages.install(tmp_path / "site")
    assert problem.startswith(f"pip cannot install the wheels in {wheels}: no_such_package-1.0-cp39-cp39-win_amd64.whl")


def test_wheels_of_installed_packages_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "numpy-1.26.4-cp39-cp39-win_amd64.whl").write_bytes(b"not a wheel")
    need(monkeypatch, tmp_path, "numpy>=1.26\n", tmp_path)
    assert packages.install(tmp_path / "site") == ""


def need(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str, wheels: Path) -> None:
    """The packages that are needed, and the folder of the wheels."""
    file = folder / "packages.txt"
    file.write_text(text)
    monkeypatch.setattr(packages, "NEEDED", file)
    monkeypatch.setattr(packages, "WHEELS", wheels)


def test_pydantic_gets_the_core_of_its_version(tmp_path: Path) -> None:
    (tmp_path / "packages.txt").write_text("pydantic>=1000\npydantic-core\n")
    assert packages.names_to_install(tmp_path / "packages.txt") == ["pydantic", "pydantic-core"]


@pytest.mark.parametrize("file", [packages.NEEDED, packages.NEEDED_BY_SERVED], ids=["all parts", "served"])
def test_listed_packages_are_installed_and_recent(file: Path) -> None:
    assert packages.missing(file) == []


def test_every_requirement_of_a_listed_package_is_listed() -> None:
    with_torch = {"torch", "filelock", "fsspec", "typing-extensions", "setuptools"}
    known = {package.name for package in packages.packages(packages.NEEDED)} | with_torch
    assert required_by(known - with_torch) <= known
    served = {package.name for package in packages.packages(packages.NEEDED_BY_SERVED)}
    assert required_by(served) <= known | served


def required_by(names: set[str]) -> set[str]:
    """The packages that these packages need on Linux with Python 3.12, without extras."""
    found = set()
    for name in names:
        for text in importlib.metadata.requires(name) or []:
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": "", "python_version": "3.12"}):
                found.add(re.sub(r"[-_.]+", "-", needed.name).lower())
    return found


@pytest.mark.slow
def test_parts_import_no_package_that_only_served_needs(tmp_path: Path) -> None:
    (tmp_path / "aiohttp.py").write_text("raise ImportError('aiohttp')")
    (tmp_path / "fastapi.py").write_text("raise ImportError('fastapi')")
    lines = "from benchmarks.gpu_kit.part import PARTS\n"
    lines += "import importlib\n[importlib.import_module(part.module) for part in PARTS]"
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    done = subprocess.run([sys.executable, "-c", lines], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
