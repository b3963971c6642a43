# SPDX-License-Identifier: Apache-2.0
"""The guard: however the parent or the command ends, no process and no file stays behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from fastapi_triton.embedded import guard

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")

# Starts a child in the background, as Triton starts its stub processes, prints both process ids, and waits for ever.
SERVER = "sleep 1000 & echo $$ $!; wait"
STUBBORN = "trap '' TERM; sleep 1000 & echo $$ $!; wait; wait"

Start = Callable[[str], tuple[subprocess.Popen[str], list[psutil.Process]]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a guard that runs a shell line. Returns the guard, the command's process and the command's child."""
    (tmp_path / "work").mkdir()
    guards: list[subprocess.Popen[str]] = []

    def run(line: str) -> tuple[subprocess.Popen[str], list[psutil.Process]]:
        process = subprocess.Popen(
            [
                sys.executable,
                "-I",
                guard.__file__,
                str(tmp_path / "work"),
                "no_such_prefix_",
                "0.5",
                "bash",
                "-c",
                line,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        guards.append(process)
        assert process.stdout is not None
        ids = process.stdout.readline().split()
        return process, [psutil.Process(int(each)) for each in ids]

    yield run
    for process in guards:
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        process.wait(20)


def assert_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=20)
    assert not alive


def test_the_end_of_the_parent_ends_all_processes_and_removes_the_work_folder(start: Start, tmp_path: Path) -> None:
    process, below = start(SERVER)
    assert process.stdin is not None
    process.stdin.close()  # what the kernel does when the parent is killed
    assert_gone(below)
    process.wait(20)
    assert not (tmp_path / "work").exists()


def test_killing_the_command_ends_its_children_and_returns_the_signal(start: Start) -> None:
    process, below = start(SERVER)
    below[0].send_signal(signal.SIGKILL)
    assert_gone(below)
    assert process.wait(20) == signal.SIGKILL


def test_the_exit_status_of_the_command_is_returned(start: Start) -> None:
    process, _ = start("echo; exit 7")
    assert process.wait(20) == 7


def test_killing_the_guard_ends_the_command(start: Start) -> None:
    process, below = start(SERVER)
    process.kill()
    assert_gone(below[:1])
    below[1].kill()  # the guard is dead, so the test ends the shell's child


def test_the_guard_ignores_signals_of_the_terminal(start: Start) -> None:
    process, below = start(SERVER)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(process.pid, number)
    assert process.stdin is not None
    process.stdin.write("still there\n")
    process.stdin.flush()
    assert below[0].is_running()
    assert process.poll() is None


def test_a_command_that_ignores_sigterm_is_killed(start: Start) -> None:
    process, below = start(STUBBORN)
    assert process.stdin is not None
    process.stdin.close()
    assert_gone(below)
    assert process.wait(20) == signal.SIGKILL
