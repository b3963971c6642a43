# SPDX-License-Identifier: Apache-2.0
"""What perf_analyzer and aiperf have in common: where they are installed, their errors, and their measurements."""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path


class PerfError(Exception):
    """The measurement cannot start: a file is missing, an input unknown, or there is no tool."""


class ToolError(PerfError):
    """The tool ran and failed."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """The result of one run: inferences per second, latencies in milliseconds."""

    inferences_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float


def cache_folder(tool: str) -> Path:
    """The folder into which `--install` installs a tool.

    Raises:
        PerfError: the user has no home folder.
    """
    try:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        raise PerfError(f"This user has no home folder. Set XDG_CACHE_HOME, or put {tool} on the PATH.") from None
    return Path(cache) / "fastapi-triton" / tool


def find(tool: str, named: Path | None, how_to_install: str) -> Path:
    """The program of a tool: the named one, or one on the PATH, beside this Python, or in `cache_folder`.

    Raises:
        PerfError: there is none. The text has the instructions, with the `{folder}` of `--install`.
    """
    if named is not None:
        if not named.is_file():
            raise PerfError(f"There is no {tool} at {named}.")
        return named.absolute()
    installed = cache_folder(tool)
    candidates = (Path(shutil.which(tool) or ""), Path(sys.executable).parent / tool, installed / "bin" / tool)
    for candidate in candidates:
        if candidate.is_file():
            return candidate.absolute()
    raise PerfError(how_to_install.format(folder=installed))
