# SPDX-License-Identifier: Apache-2.0
"""Without a Python that can run Triton, `scripts/setup` downloads one with uv."""

import re
import shutil

import pytest

from support.bare_machine import FAKE_UV, UV_OFFLINE, Machine

TOO_NEW = "python-too-new||Python 3.13.5 is too new; 3.11 or 3.12 is required."


def test_uv_on_the_path_downloads_a_python_if_there_is_none_to_use(machine: Machine) -> None:
    machine.has("uv", FAKE_UV)
    for python in (None, "python3"):
        if python is not None:
            machine.has(python)
            machine.stands_in_the_way(python, TOO_NEW)
        done = machine.setup()
        assert done.returncode == 0, done.stderr
        announced = "Downloading Python 3.12 with uv (60 MB) into ~/.local/share/uv …"
        assert announced in done.stderr.splitlines()[0]
        shutil.rmtree(machine.clone / ".venv")
    assert len(machine.calls("uv python install 3.12")) == 2
    assert machine.calls("-m venv .venv") == ["calls.python3.12 -m venv .venv"] * 2


@pytest.mark.parametrize("obstacle", [TOO_NEW, "python-too-old||old", "libpython||no library, and no package has it"])
def test_uv_from_a_throw_away_environment_downloads_a_python(machine: Machine, obstacle: str) -> None:
    machine.has("python3")
    machine.stands_in_the_way("python3", obstacle)
    done = machine.setup()
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"python3 -m venv /.*/uv", machine.calls("-m venv")[0])
    assert machine.calls("-m venv .venv") == ["calls.python3.12 -m venv .venv"]
    left = [path for path in machine.clone.parent.iterdir() if path.name.startswith("tmp.")]
    assert left == []


def test_an_older_uv_on_the_path_is_not_used(machine: Machine) -> None:
    machine.has("uv", FAKE_UV)
    machine.has("python3")
    machine.stands_in_the_way("python3", TOO_NEW)
    assert machine.setup(UV_HELP="--python").returncode == 0
    assert len(machine.calls("/uv")) == 1


def test_a_python_that_uv_downloaded_before_is_used_again(machine: Machine) -> None:
    folder = machine.clone.parent / "home/.local/share/uv/python/cpython-3.12.16-linux-x86_64-gnu/bin"
    folder.mkdir(parents=True)
    machine.has("python3")
    machine.stands_in_the_way("python3", TOO_NEW)
    (folder / "python3.12").symlink_to(machine.environment["FAKE_PYTHON"])
    assert machine.setup().returncode == 0
    assert machine.calls("-m venv") == ["python3.12 -m venv .venv"]


@pytest.mark.parametrize("errors", [{"UV_ERROR": UV_OFFLINE}, {"UV_WHEEL_ERROR": UV_OFFLINE}])
def test_without_a_network_the_download_fails_in_one_sentence(machine: Machine, errors: dict[str, str]) -> None:
    machine.has("python3")
    machine.stands_in_the_way("python3", TOO_NEW)
    done = machine.setup(**errors)
    assert done.returncode == 1
    _, failed = done.stderr.splitlines()
    assert failed.startswith("The download failed: the network does not reach https://builds.example; behind a proxy,")
    assert "`make run PYTHON=<its path>`" in failed
    assert not (machine.clone / ".venv").exists()


def test_after_a_failed_download_the_command_of_the_distribution_is_shown(machine: Machine) -> None:
    machine.has("uv", FAKE_UV)
    machine.has("python3")
    advice = "Python 3.14.0 is too new. Install it with `sudo dnf install python3.12`, then run `make run`."
    machine.stands_in_the_way("python3", f"python-too-new||{advice}")
    done = machine.setup(UV_ERROR=UV_OFFLINE)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == advice


@pytest.mark.parametrize(
    "obstacle",
    ["machine||This processor is aarch64.", "disk||The disk is full."],
)
def test_another_python_is_not_downloaded_for_other_obstacles(machine: Machine, obstacle: str) -> None:
    machine.has("uv", FAKE_UV)
    machine.has("python3")
    machine.stands_in_the_way("python3", TOO_NEW, obstacle)
    done = machine.setup()
    assert done.returncode == 1
    assert done.stderr.splitlines() == [TOO_NEW.split("|")[2], obstacle.split("|")[2]]
    assert machine.calls("uv python") == []


PACKAGES = (
    "venv|python3.12-venv|Install the packages with `sudo apt-get install python3.12-venv`.",
    "python-too-new|python3-venv|Run `sudo apt-get install python3-venv`, then `make run`.",
)


@pytest.mark.parametrize("obstacle", PACKAGES)
def test_a_user_who_cannot_install_packages_needs_them_only_without_uv(machine: Machine, obstacle: str) -> None:
    machine.has("python3")
    machine.stands_in_the_way("python3", obstacle)
    done = machine.setup()
    assert (done.returncode, done.stderr) == (1, obstacle.split("|")[2] + "\n")
    machine.has("uv", FAKE_UV)
    assert machine.setup().returncode == 0
    assert len(machine.calls("uv python install 3.12")) == 1


def test_a_chosen_python_is_not_replaced(machine: Machine) -> None:
    machine.has("uv", FAKE_UV)
    machine.has("python3")
    machine.stands_in_the_way("python3", TOO_NEW)
    done = machine.setup(PYTHON="python3")
    assert (done.returncode, done.stderr) == (1, TOO_NEW.split("|")[2] + "\n")
    assert machine.calls("uv python") == []


def test_a_python_that_cannot_run_the_check_is_too_old(machine: Machine) -> None:
    machine.has("python3", '#!/bin/sh\n[ "$1" = -c ] && exit 0\necho SyntaxError >&2\nexit 1\n')
    done = machine.setup(PYTHON="python3")
    assert done.returncode == 1
    assert re.fullmatch(r"python3 is too old; .*`make run PYTHON=python3\.12`\.\n", done.stderr)
