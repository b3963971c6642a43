# SPDX-License-Identifier: Apache-2.0
"""A machine for `scripts/setup`: a clone, and a PATH with stubs for Python, uv, apt-get and id."""

import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from support.paths import ROOT

TOOLS = (
    "awk",
    "basename",
    "bash",
    "cat",
    "cksum",
    "cp",
    "cut",
    "dirname",
    "flock",
    "grep",
    "make",
    "mkdir",
    "mktemp",
    "paste",
    "rm",
    "sed",
    "sh",
    "sort",
    "tail",
    "tr",
)

# Behaves like a Python whose obstacles are in a file, so that the stub of apt-get can remove them.
FAKE_PYTHON = """#!/bin/bash
name="$(basename "$0")"
echo "$name $*" >> "$CALLS"
case "$*" in
  "-I src/fastapi_triton/embedded/preflight.py .")
    [ ! -s "$OBSTACLES/$name" ] || { cat "$OBSTACLES/$name"; exit 1; } ;;
  *"preflight.py . $FULL_FOR") echo "disk||The disk is too small."; exit 1 ;;
  *"preflight.py gpu") [ -n "$HAS_GPU" ] || exit 1 ;;
  "-m venv "*)
    folder="${@: -1}"
    mkdir -p "$folder/bin"
    cp "$0" "$folder/bin/python"
    [ -z "$INTERRUPT_VENV" ] || exit 130
    echo "VIRTUAL_ENV=\\"$PWD/.venv\\"" > "$folder/bin/activate" ;;
  "-m pip config list") echo "$PIP_CONFIG" ;;
  *"--dry-run --no-index"*) [ -n "$HAS_WHEEL" ] || exit 1 ;;
  *"pip install "*" uv") cp "$FAKE_UV" "${0%/*}/uv"; echo "$UV_WHEEL_ERROR"; [ -z "$UV_WHEEL_ERROR" ] || exit 1 ;;
  "-m pip install"*) [ -z "$PIP_READS" ] || exec cat "$PIP_READS"; echo "$PIP_OUTPUT"; exit "${PIP_STATUS:-0}" ;;
  *importlib.metadata*) [ -z "$NO_TORCH" ] || exit 1 ;;
  *"version_info"*) echo "${VERSION:-3.11.2}" ;;
esac
exit 0
"""
FAKE_APT = """#!/bin/bash
echo "apt-get $*" >> "$CALLS"
[ -z "$APT_ERROR" ] || { echo "$APT_ERROR"; exit 100; }
for each; do
  case "$each" in
    python3) cp "$FAKE_PYTHON" "$BIN/python3"; echo "libpython|libpython3.11|no library" > "$OBSTACLES/python3" ;;
    libpython3.11) : > "$OBSTACLES/python3" ;;
    python3.11) cp "$FAKE_PYTHON" "$BIN/python3.11" ;;
  esac
done
"""
# `uv python find` finds the python3.12 in the folder of the stub's own calls file.
FAKE_UV = """#!/bin/bash
echo "uv $*" >> "$CALLS"
case "$*" in
  "pip install --help") echo "$UV_HELP" ;;
  "python find"*) cp "$FAKE_PYTHON" "$CALLS.python3.12"; echo "$CALLS.python3.12" ;;
  *) echo "$UV_ERROR"; [ -z "$UV_ERROR" ] || exit 2 ;;
esac
"""
# What uv prints without a network.
UV_OFFLINE = """error: Failed to install cpython-3.12.16-linux-x86_64-gnu
  cause: Failed to download `https://builds.example/cpython-3.12.16.tar.gz`
  cause: client error (Connect)
  cause: failed to lookup address information: Name or service not known"""


@dataclass
class Machine:
    """A clone, and a PATH with stub commands."""

    clone: Path
    bin: Path
    obstacles: Path
    calls_file: Path
    environment: dict[str, str] = field(default_factory=dict)

    def has(self, name: str, text: str = FAKE_PYTHON) -> None:
        (self.bin / name).write_text(text, encoding="utf-8")
        (self.bin / name).chmod(0o755)

    def stands_in_the_way(self, python: str, *lines: str) -> None:
        (self.obstacles / python).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def setup(self, extras: str = "embedded", **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.clone / "scripts" / "setup"), extras],
            env={**self.environment, **more},
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def calls(self, of: str) -> list[str]:
        """The calls so far that contain this text."""
        text = self.calls_file.read_text(encoding="utf-8") if self.calls_file.exists() else ""
        return [line for line in text.splitlines() if of in line]


def clone_to(folder: Path) -> Path:
    for name in (
        "pyproject.toml",
        "constraints.txt",
        "Makefile",
        "scripts/setup",
        "src/fastapi_triton/embedded/preflight.py",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


def make(folder: Path) -> Machine:
    """A machine with the usual tools of Linux, but without Python."""
    found = Machine(clone_to(folder / "a clone"), folder / "bin", folder / "obstacles", folder / "calls")
    found.bin.mkdir()
    found.obstacles.mkdir()
    for tool in TOOLS:
        (found.bin / tool).symlink_to(str(shutil.which(tool)))
    found.has("id", '#!/bin/sh\necho "${FAKE_UID:-1000}"\n')
    for name, text in (("python-template", FAKE_PYTHON), ("uv-template", FAKE_UV)):
        (folder / name).write_text(text, encoding="utf-8")
        (folder / name).chmod(0o755)
    found.environment = {
        "PATH": str(found.bin),
        "BIN": str(found.bin),
        "CALLS": str(found.calls_file),
        "OBSTACLES": str(found.obstacles),
        "FAKE_PYTHON": str(folder / "python-template"),
        "FAKE_UV": str(folder / "uv-template"),
        "FULL_FOR": "no build",
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder),
        "UV_HELP": "--torch-backend",
        # setup looks for the system Python by its path. The real one of the test machine must not be found.
        "SYSTEM_PYTHON": str(found.bin / "none"),
    }
    return found
