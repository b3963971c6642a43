# SPDX-License-Identifier: Apache-2.0
"""Which Python `scripts/setup` chooses, installs, or asks for."""

import pytest

from support.bare_machine import FAKE_APT, FAKE_PYTHON, Machine


def test_a_python_without_obstacles_is_preferred(machine: Machine) -> None:
    for name in ("python3", "python3.11", "python3.12"):
        machine.has(name)
    machine.stands_in_the_way("python3.11", "libpython|libpython3.11|no library")
    assert machine.setup().returncode == 0
    assert machine.calls("-m venv") == ["python3.12 -m venv .venv"]


def test_a_command_that_does_not_start_is_skipped(machine: Machine) -> None:
    machine.has("python3.11", "#!/bin/sh\nexit 127\n")
    machine.has("python3")
    assert machine.setup().returncode == 0
    assert machine.calls("-m venv") == ["python3 -m venv .venv"]


def test_a_chosen_python_replaces_another(machine: Machine) -> None:
    machine.has("python3.11")
    machine.has("python3.12", FAKE_PYTHON.replace("3.11.2", "3.12.3"))
    machine.setup()
    assert machine.setup(PYTHON="python3.12").returncode == 0
    assert machine.setup(PYTHON="python3.12").returncode == 0
    assert machine.calls("-m venv") == ["python3.11 -m venv .venv", "python3.12 -m venv .venv"]


def test_a_chosen_python_that_does_not_start_is_an_error(machine: Machine) -> None:
    machine.has("python3")
    done = machine.setup(PYTHON="python3.99")
    assert done.returncode == 1
    assert "PYTHON=python3.99 does not start" in done.stderr
    assert "`make run PYTHON=python3.11`" in done.stderr


def test_root_on_debian_installs_missing_packages(machine: Machine) -> None:
    machine.has("apt-get", FAKE_APT)
    done = machine.setup(FAKE_UID="0")
    assert done.returncode == 0, done.stderr
    assert machine.calls("apt-get") == [
        "apt-get -q update",
        "apt-get -qy install --no-install-recommends python3 python3-venv",
        "apt-get -qy install --no-install-recommends libpython3.11",
    ]
    assert machine.calls("-m venv") == ["python3 -m venv .venv"]


def test_root_installs_a_newer_python_if_the_default_is_too_old(machine: Machine) -> None:
    machine.has("python3")
    machine.stands_in_the_way("python3", "python-too-old|python3.11 python3.11-venv libpython3.11|too old")
    machine.has("apt-get", FAKE_APT)
    assert machine.setup(FAKE_UID="0").returncode == 0
    assert machine.calls("-m venv") == ["python3.11 -m venv .venv"]


def test_a_failing_apt_get_is_reported_with_its_error(machine: Machine) -> None:
    machine.has("apt-get", FAKE_APT)
    done = machine.setup(FAKE_UID="0", APT_ERROR="E: Unable to locate package python3")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "apt-get could not install python3 python3-venv: E: Unable to locate package python3"
    )


@pytest.mark.parametrize(
    ("manager", "command"),
    [
        ("apt-get", "apt-get install python3-venv libpython3-dev"),
        ("dnf", "dnf install python3.12"),
        ("pacman", "pacman -S uv"),
        ("zypper", "zypper install python3"),
    ],
)
def test_users_without_python_get_the_command_of_their_distribution(
    machine: Machine, manager: str, command: str
) -> None:
    machine.has(manager, FAKE_APT)
    done = machine.setup()
    assert done.returncode == 1
    assert done.stderr == f"Python is not installed. Run `su -c '{command}'`, then run the same command again.\n"
    machine.has("sudo")
    assert f"Run `sudo {command}`, then" in machine.setup().stderr
    assert machine.calls(manager) == []
    if manager != "apt-get":
        assert f"Run `{command}`, then" in machine.setup(FAKE_UID="0").stderr


def test_without_python_and_without_a_known_package_manager_the_advice_is_general(machine: Machine) -> None:
    done = machine.setup()
    assert done.returncode == 1
    assert done.stderr.startswith("Python is not installed. Install Python 3.11 or 3.12, or uv, which downloads one;")


def test_other_users_get_the_command_and_nothing_is_installed(machine: Machine) -> None:
    machine.has("apt-get", FAKE_APT)
    machine.has("python3")
    machine.stands_in_the_way("python3", "venv|python3.11-venv|Install it with `sudo apt-get install python3.11-venv`.")
    done = machine.setup()
    assert done.returncode == 1
    assert done.stderr == "Install it with `sudo apt-get install python3.11-venv`.\n"
    assert machine.calls("apt-get") == []
    assert not (machine.clone / ".venv").exists()


def test_root_gets_an_error_that_apt_cannot_fix(machine: Machine) -> None:
    machine.has("python3")
    machine.has("apt-get", FAKE_APT)
    machine.stands_in_the_way("python3", "machine||This processor is aarch64.")
    done = machine.setup(FAKE_UID="0")
    assert (done.returncode, done.stderr) == (1, "This processor is aarch64.\n")
    assert machine.calls("apt-get") == []
