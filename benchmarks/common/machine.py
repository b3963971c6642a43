# SPDX-License-Identifier: Apache-2.0
"""The machine, Python build and commit of a measurement."""

import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from benchmarks import ROOT


def cpu_name() -> str:
    for line in cpuinfo():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def slug(name: str) -> str:
    """`name` in the form of a file name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def cpu_slug() -> str:
    return f"{slug(cpu_name())}-{os.cpu_count()}-cores"


def commit() -> str:
    """The checked-out commit; "unknown" in a copy without git."""
    if shutil.which("git") is None:
        return "unknown"
    found = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty"],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() or "unknown"


def python_build() -> str:
    """The kind of Python build. Profile-guided ones, such as those of distributions and images, are a tenth faster."""
    if sys.base_prefix == "/usr":
        return "the distribution's build"
    is_profiled = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
    return "profile-guided build" if is_profiled else "build without profile-guided optimisation"


def cpuinfo() -> list[str]:
    file = Path("/proc/cpuinfo")
    return file.read_text().splitlines() if file.is_file() else []
