# SPDX-License-Identifier: Apache-2.0
"""Machines with other Linux distributions: `make test-linux`, as root. Fresh installations stay in build/linux."""

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import distribution
import pytest
from distribution import Machine, Release

from support.paths import ROOT

WORK = ROOT / "build" / "linux"


@pytest.fixture
def new_machine() -> Iterator[Callable[[Release], Machine]]:
    """Makes machines that end with the test."""
    if os.geteuid() != 0:
        pytest.skip("debootstrap and chroot need root: run `sudo make test-linux`")
    WORK.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=WORK, prefix="machine-") as folder:

        def make(release: Release) -> Machine:
            try:
                installed = distribution.base(release, WORK)
            except subprocess.CalledProcessError as error:
                printed = error.stdout + error.stderr
                if release.name.startswith("Ubuntu") and "Failed getting release file" in printed:
                    pytest.skip(f"needs Ubuntu's archive: {printed[-300:]}")
                raise
            return distribution.machine(installed, Path(folder, "root"))

        yield make
