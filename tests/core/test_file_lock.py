# SPDX-License-Identifier: Apache-2.0
"""A lock has one holder at a time, and is released when its process ends, even if it is killed."""

import subprocess
import sys
from pathlib import Path

from fastapi_triton.core import file_lock

HOLDER = """
import pathlib, sys
from fastapi_triton.core import file_lock
with file_lock.held(pathlib.Path(sys.argv[1])) as is_held:
    print(is_held, flush=True)
    sys.stdin.read()
"""


def test_a_file_or_folder_is_locked_only_once(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    file.touch()
    for path in (tmp_path, file):
        with file_lock.held(path) as is_first, file_lock.held(path) as is_second:
            assert (is_first, is_second) == (True, False)
        with file_lock.held(path, wait=True) as is_held:
            assert is_held


def test_a_killed_process_releases_its_lock(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        with file_lock.held(tmp_path) as is_held:
            assert not is_held
        holder.kill()
        with file_lock.held(tmp_path, wait=True) as is_held:
            assert is_held
