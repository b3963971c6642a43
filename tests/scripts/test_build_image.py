# SPDX-License-Identifier: Apache-2.0
"""`make image` with stand-ins for the builders."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from support.paths import ROOT


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder for the PATH, with the programs that the script needs and no builder."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("env", "bash", "dirname", "awk", "tail"):
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    add(folder, "df", "printf '%s\\n' 'Filesystem 1024-blocks Used Available' \"disk 0 0 ${FREE:-90000000}\"")
    return folder


def add(programs: Path, name: str, script: str) -> None:
    program = programs / name
    program.write_text(f"#!{programs / 'bash'}\n{script}\n", encoding="utf-8")
    program.chmod(0o755)


def builder(programs: Path, name: str, storage: Path) -> None:
    add(programs, name, f'[ "$1" = info ] && echo {storage} || echo "{name} $*"')


def build(programs: Path, image: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [str(ROOT / "scripts" / "build_image"), image]
    variables = {"PATH": str(programs), **environment}
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("image", "options"),
    [
        ("frontend", "--target frontend --format docker --tag fastapi-triton/frontend ."),
        ("demo", "--target demo --format docker --tag fastapi-triton-demo ."),
        ("triton", "--file deploy/triton/Dockerfile --format docker --tag fastapi-triton/triton ."),
    ],
)
def test_first_builder_that_works_builds_the_image(programs: Path, tmp_path: Path, image: str, options: str) -> None:
    add(programs, "docker", "exit 1")  # its daemon does not run
    builder(programs, "podman", tmp_path)
    builder(programs, "buildah", tmp_path)
    done = build(programs, image)
    assert done.stdout.splitlines()[0] == f"podman build {options}", done.stderr


@pytest.mark.parametrize(
    ("image", "sentence"),
    [("frontend", "Building an image needs Docker, podman or buildah."), ("web", "There is no image web.")],
)
def test_problem_is_one_sentence(programs: Path, image: str, sentence: str) -> None:
    done = build(programs, image)
    assert done.returncode == 1
    assert done.stderr.startswith(sentence)
    assert len(done.stderr.splitlines()) == 1


def test_docker_says_itself_why_it_cannot_be_used(programs: Path) -> None:
    add(programs, "docker", "echo 'Cannot connect to the Docker daemon. Is it running?' >&2; exit 1")
    expected = "Docker is installed but cannot be used: Cannot connect to the Docker daemon. Is it running?\n"
    assert build(programs, "demo").stderr == expected


def test_full_disk_is_reported_before_the_build(programs: Path, tmp_path: Path) -> None:
    builder(programs, "docker", tmp_path)
    done = build(programs, "demo", FREE="4999999")
    assert done.stdout == ""
    assert done.stderr.startswith(f"The disk of {tmp_path} has 4 GB free; fastapi-triton-demo needs 5 GB.")


def test_storage_in_a_virtual_machine_is_not_measured(programs: Path, tmp_path: Path) -> None:
    builder(programs, "docker", tmp_path / "none")
    assert build(programs, "demo", FREE="0").returncode == 0


def test_make_passes_the_image_on() -> None:
    command = ["make", "--dry-run", "--no-print-directory", "image", "IMAGE=demo"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["scripts/build_image", "demo"]
    assert os.access(ROOT / "scripts" / "build_image", os.X_OK)


def test_image_tests_say_that_they_need_root(programs: Path) -> None:
    add(programs, "id", "echo 1000")
    done = subprocess.run(
        [str(ROOT / "tests" / "images" / "run")],
        env={"PATH": str(programs)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("The image tests need root on Debian or Ubuntu")
