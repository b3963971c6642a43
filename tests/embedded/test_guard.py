# SPDX-License-Identifier: Apache-2.0
"""Whatever happens to the one who asked, nothing of what was started is left."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from fastapi_triton.embedded import guard

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the guard is for Linux")

# Starts a child in the background, as Triton starts its Python stubs, says both process ids, then waits for ever.
SERVER = "sleep 1000 & echo $$ $!; wait"
STUBBORN = "trap '' TERM; sleep 1000 & echo $$ $!; wait; wait"

Start = Callable[[str], tuple[subprocess.Popen[str], list[psutil.Process]]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts the guard over a shell line. Gives its process, and those of the command and of the command's child."""
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


def test_when_the_parent_goes_away_everything_goes(start: Start, tmp_path: Path) -> None:
    process, below = start(SERVER)
    assert process.stdin is not None
    process.stdin.close()  # what the kernel does when the parent is killed
    assert_gone(below)
    process.wait(20)
    assert not (tmp_path / "work").exists()


def test_when_the_command_is_killed_its_children_go_and_its_end_is_told(start: Start) -> None:
    process, below = start(SERVER)
    below[0].send_signal(signal.SIGKILL)
    assert_gone(below)
    assert process.wait(20) == signal.SIGKILL


def test_a_command_that_ends_by_itself_is_told_by_its_status(start: Start) -> None:
    process, _ = start("echo; exit 7")
    assert process.wait(20) == 7


def test_when_the_guard_itself_is_killed_the_command_goes(start: Start) -> None:
    process, below = start(SERVER)
    process.kill()
    assert_gone(below[:1])
    below[1].kill()  # a shell's child has no one left to end it; Triton's stubs watch for their server themselves


def test_the_terminals_signals_are_left_to_the_parent(start: Start) -> None:
    process, below = start(SERVER)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(process.pid, number)
    assert process.stdin is not None
    process.stdin.write("still there\n")
    process.stdin.flush()
    assert below[0].is_running()
    assert process.poll() is None


def test_a_command_that_will_not_stop_is_killed(start: Start) -> None:
    process, below = start(STUBBORN)
    assert process.stdin is not None
    process.stdin.close()
    assert_gone(below)
    assert process.wait(20) == signal.SIGKILL
