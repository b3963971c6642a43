# SPDX-License-Identifier: Apache-2.0
"""`make run` on Debian 13, whose Python 3.13 cannot run Triton: uv downloads Python 3.12.

Where the server of uv's builds cannot be reached, a stub of uv finds a Python 3.12 of this machine instead.
"""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from distribution import DEBIAN_13, UNREACHABLE, Machine, Release

pytestmark = [pytest.mark.linux, pytest.mark.integration]

STUB_UV = """#!/bin/sh
case "$*" in
  "pip install --help") echo --torch-backend ;;
  "python install 3.12") ;;
  "python find --managed-python 3.12") echo PYTHON/bin/python3.12 ;;
  *) echo "the stub does not know $*" >&2; exit 2 ;;
esac
"""
DOWNLOADS = "Downloading Python 3.12 with uv (60 MB) into ~/.local/share/uv …"


def shared_python_3_12() -> Path | None:
    """The folder of a Python 3.12 of this machine that has its own shared library."""
    script = "import sys, os; os.stat(sys.base_prefix + '/lib/libpython3.12.so.1.0'); print(sys.base_prefix)"
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for python in ("python3.12", *pyenv.glob("versions/3.12*/bin/python3.12")):
        try:
            done = subprocess.run([python, "-c", script], capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return Path(done.stdout.strip())
    return None


def stub_uv(machine: Machine) -> None:
    python = shared_python_3_12()
    if python is None:
        pytest.skip("needs the server of uv's Python builds, or a Python 3.12 with its shared library")
    machine.share(python, str(python))
    machine.write("/usr/local/bin/uv", STUB_UV.replace("PYTHON", str(python)), 0o755)


def test_root_gets_python_3_12_and_triton_runs_its_models(new_machine: Callable[[Release], Machine]) -> None:
    machine = new_machine(DEBIAN_13)
    machine.share_pip_cache()
    machine.stub_torch()
    offline = machine.setup(UV_PYTHON_INSTALL_MIRROR=UNREACHABLE)
    assert offline.returncode == 1
    packages, announced, failed = offline.stderr.splitlines()
    assert packages == "Installing python3 python3-venv with apt-get …"
    assert announced.endswith(DOWNLOADS)
    assert failed == (
        f"The download failed: the network does not reach {UNREACHABLE}; behind a proxy, set HTTPS_PROXY. Fix this "
        "and run the same command again, or install a Python 3.11 or 3.12 with its shared library and run "
        "`make run PYTHON=<its path>`."
    )
    chosen = machine.setup(PYTHON="python3")
    assert chosen.returncode == 1
    assert chosen.stderr.startswith("Python 3.13.")
    assert chosen.stderr.endswith("Run `make run` without PYTHON: it finds one, or downloads Python 3.12 with uv.\n")

    done = machine.setup()
    if done.returncode != 0 and "network does not reach https://" in done.stderr:
        stub_uv(machine)
        done = machine.setup()
    assert done.returncode == 0, done.stderr
    announced, installs = done.stderr.splitlines()
    assert announced.endswith(DOWNLOADS)
    assert installs.startswith("Installing fastapi-triton[embedded] into .venv with Python 3.12.")
    machine.assert_triton_runs_models()
