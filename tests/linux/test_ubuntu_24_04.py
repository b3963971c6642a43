# SPDX-License-Identifier: Apache-2.0
"""`make run` on Ubuntu 24.04, whose own Python 3.12 runs Triton. PyTorch is a stub: pip would download gigabytes."""

from collections.abc import Callable

import pytest
from distribution import UBUNTU_24, UNREACHABLE, Machine, Release

pytestmark = [pytest.mark.linux, pytest.mark.integration]


def test_a_user_without_sudo_gets_the_command_that_helps(new_machine: Callable[[Release], Machine]) -> None:
    machine = new_machine(UBUNTU_24)
    machine.stub_torch()
    machine.become_user()
    bare = machine.setup()
    command = "apt-get install python3-venv libpython3-dev"
    assert bare.returncode == 1
    assert bare.stderr == f"Python is not installed. Run `su -c '{command}'`, then run the same command again.\n"
    machine.become_root()
    assert machine.run("sh", "-c", f"apt-get -q update && {command} --yes").returncode == 0

    machine.become_user()
    offline = machine.setup(PIP_INDEX_URL=f"{UNREACHABLE}/simple", PIP_RETRIES="1")
    assert offline.returncode == 1
    said = offline.stderr.splitlines()
    assert len(said) == 2, said
    installs, failed = said
    assert installs.startswith("Installing fastapi-triton[embedded] into .venv with Python 3.12.")
    assert failed.startswith("The installation failed: the network does not reach ")

    done = machine.setup()
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[0] == "Continuing an interrupted installation."
    machine.assert_triton_runs_models()
